//! A canvas of twice the fineness: everything is drawn at two by two dots a pixel and averaged down,
//! which evens out curves and the spacing of letters.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Dots a pixel, each way.
pub(crate) const FINENESS: u32 = 2;

const FONT: &str = "picture";
/// Labels look centred when they hang this much of their size lower than the font's own box.
const DROP: f32 = 0.15;

type Failed = DrawingAreaErrorKind<<BitMapBackend<'static> as DrawingBackend>::ErrorType>;
/// Done, or why it could not be drawn.
pub(crate) type Drawn<T = ()> = Result<T, Failed>;

/// Where to draw. All places and sizes are in pixels from the top left.
pub(crate) struct Canvas<'a>(DrawingArea<BitMapBackend<'a>, Shift>);

/// Draws a picture of `width` x `height` pixels into the file at `path`, whose name ends in `.png`.
pub(crate) fn paint(
    path: &Path,
    (width, height): (u32, u32),
    draw: impl FnOnce(&Canvas) -> Drawn,
) -> Drawn {
    // A bare machine has no fonts. This one is sound, and registering it again changes nothing.
    let _ = register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT);
    let (fine_width, fine_height) = (width * FINENESS, height * FINENESS);
    let mut dots = vec![0; 3 * fine_width as usize * fine_height as usize];
    let backend = BitMapBackend::with_buffer(&mut dots, (fine_width, fine_height));
    draw(&Canvas(backend.into_drawing_area()))?;

    let pixels = average(&dots, fine_width as usize);
    let mut file = BitMapBackend::new(path, (width, height));
    file.blit_bitmap((0, 0), (width, height), &pixels)
        .and_then(|()| file.present())
        .map_err(DrawingAreaErrorKind::BackendError)
}

/// The mean of each two by two dots; `dots` is `[height][width][3]`.
fn average(dots: &[u8], fine_width: usize) -> Vec<u8> {
    let row_bytes = 3 * fine_width;
    let rows = dots.chunks_exact(2 * row_bytes).map(|rows| rows.split_at(row_bytes));
    let pixels = rows.flat_map(|(upper, lower)| upper.chunks_exact(6).zip(lower.chunks_exact(6)));
    let mean = |(upper, lower): (&[u8], &[u8])| -> [u8; 3] {
        std::array::from_fn(|channel| {
            let four = [upper[channel], upper[channel + 3], lower[channel], lower[channel + 3]];
            ((four.into_iter().map(u16::from).sum::<u16>() + 2) / 4) as u8
        })
    };
    pixels.flat_map(mean).collect()
}

/// A place in dots.
fn dot((x, y): (f32, f32)) -> (i32, i32) {
    ((x * FINENESS as f32).round() as i32, (y * FINENESS as f32).round() as i32)
}

fn style(size: f32, colour: RGBColor, across: HPos) -> TextStyle<'static> {
    let size = f64::from(size) * f64::from(FINENESS);
    let font = FontDesc::new(FontFamily::Name(FONT), size, FontStyle::Normal);
    font.color(&colour).pos(Pos::new(across, VPos::Center))
}

impl Canvas<'_> {
    /// Fills the rectangle from its upper left corner to its lower right.
    pub(crate) fn fill(&self, from: (f32, f32), to: (f32, f32), colour: RGBColor) -> Drawn {
        self.0.draw(&Rectangle::new([dot(from), dot(to)], colour.filled()))
    }

    /// Draws one line of text, its middle at the height of `at`.
    pub(crate) fn text(
        &self,
        text: &str,
        at: (f32, f32),
        across: HPos,
        size: f32,
        colour: RGBColor,
    ) -> Drawn {
        let at = dot((at.0, at.1 + DROP * size));
        self.0.draw(&Text::new(text.to_owned(), at, style(size, colour, across)))
    }

    /// Draws one line of text that reads upwards, its middle at `at`.
    pub(crate) fn text_upwards(
        &self,
        text: &str,
        at: (f32, f32),
        size: f32,
        colour: RGBColor,
    ) -> Drawn {
        let style = style(size, colour, HPos::Center).transform(FontTransform::Rotate270);
        self.0.draw(&Text::new(text.to_owned(), dot(at), style))
    }

    /// How wide a text would be.
    pub(crate) fn text_width(&self, text: &str, size: f32) -> Drawn<f32> {
        let (dots, _) = self.0.estimate_text_size(text, &style(size, BLACK, HPos::Left))?;
        Ok(dots as f32 / FINENESS as f32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_dots_make_a_pixel() {
        let upper = [10, 0, 255, 20, 0, 255, 1, 1, 1, 1, 1, 1];
        let lower = [30, 0, 255, 40, 2, 255, 1, 1, 1, 1, 1, 1];
        assert_eq!(average(&[upper, lower].concat(), 4), [25, 1, 255, 1, 1, 1]);
    }
}
