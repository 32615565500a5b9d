//! Numbers over steps or minutes, as SVG text for a page.
//!
//! The picture's colours stand for roles. [`STYLE`] turns them into the page's own (`--ink`, `--rule`,
//! `--curve-1` ...), so that one picture suits light and dark pages.

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::ticks;

/// What a page of curves needs among its styles, with the variables `--ink`, `--rule`, `--curve-1`,
/// `--curve-2` and `--curve-3` set. Give the picture's parent the class `curves`.
pub const STYLE: &str = "
.curves svg { display: block; width: 100%; height: auto; }
.curves text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.curves [stroke='#010101'] { stroke: var(--rule); }
.curves [stroke='#020202'] { stroke: var(--curve-1); }
.curves [stroke='#030303'] { stroke: var(--curve-2); }
.curves [stroke='#040404'] { stroke: var(--curve-3); }
.curves [fill='#020202'] { fill: var(--curve-1); }
.curves [fill='#030303'] { fill: var(--curve-2); }
.curves [fill='#040404'] { fill: var(--curve-3); }
.curves polyline { stroke-linejoin: round; stroke-linecap: round; }
";

const INK: RGBColor = RGBColor(0, 0, 0);
const RULE: RGBColor = RGBColor(1, 1, 1);
const CURVES: [RGBColor; 3] = [RGBColor(2, 2, 2), RGBColor(3, 3, 3), RGBColor(4, 4, 4)];

/// The picture's size, and its panel, in units of the picture.
const SIZE: (u32, u32) = (440, 260);
const LEFT: i32 = 40;
const RIGHT: i32 = 424;
const TOP: i32 = 10;
const BOTTOM: i32 = 206;
/// Curves of fewer points show each.
const FEW: usize = 40;

/// One line: pairs of x and y, in order of x.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// The points. Those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Which of the page's colours: 0 to 2.
    pub colour: usize,
}

/// The curves over one axis, named `x_name` below it, as an `<svg>` element.
///
/// # Errors
/// There is no finite point.
pub fn svg(curves: &[Curve], x_name: &str) -> Result<String> {
    let finite = |curve: &Curve| -> Vec<(f64, f64)> {
        let points = curve.points.iter().copied();
        points.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    };
    let curves: Vec<(usize, Vec<(f64, f64)>)> =
        curves.iter().map(|curve| (curve.colour, finite(curve))).collect();
    let points = || curves.iter().flat_map(|(_, points)| points);
    let (x, y) = (span(points().map(|(x, _)| *x)), span(points().map(|(_, y)| *y)));
    let (Some(x), Some(y)) = (x, y) else {
        return Err(anyhow!("there is no curve to draw"));
    };
    let mut text = String::new();
    draw(&mut text, &curves, x, y, x_name).map_err(|why| anyhow!("the curves: {why}"))?;
    // The page decides the size; the numbers are only the picture's proportions.
    let (width, height) = SIZE;
    Ok(text.replacen(&format!(r#"width="{width}" height="{height}" "#), "", 1))
}

/// From the least to the most, never of no width.
fn span(values: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let span = values.fold(None, |span: Option<(f64, f64)>, value| {
        Some(span.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
    });
    span.map(|(low, high)| if high > low { (low, high) } else { (low - 0.5, high + 0.5) })
}

fn draw(
    text: &mut String,
    curves: &[(usize, Vec<(f64, f64)>)],
    (x_low, x_high): (f64, f64),
    (y_low, y_high): (f64, f64),
    x_name: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    let margin = 0.04 * (y_high - y_low);
    let (y_low, y_high) = (y_low - margin, y_high + margin);
    let across = |x: f64| LEFT + ((x - x_low) / (x_high - x_low) * f64::from(RIGHT - LEFT)) as i32;
    let up = |y: f64| BOTTOM - ((y - y_low) / (y_high - y_low) * f64::from(BOTTOM - TOP)) as i32;
    let words = |at: (i32, i32), text: String, across: HPos, along: VPos| {
        let style = ("sans-serif", 13).into_font().color(&INK).pos(Pos::new(across, along));
        Text::new(text, at, style)
    };

    for (y, label) in ticks::round(y_low, y_high, 6) {
        root.draw(&PathElement::new(vec![(LEFT, up(y)), (RIGHT, up(y))], RULE))?;
        root.draw(&words((LEFT - 10, up(y)), label, HPos::Right, VPos::Center))?;
    }
    for (x, label) in ticks::round(x_low, x_high, 6) {
        root.draw(&PathElement::new(vec![(across(x), BOTTOM), (across(x), BOTTOM + 5)], RULE))?;
        root.draw(&words((across(x), BOTTOM + 10), label, HPos::Center, VPos::Top))?;
    }
    let middle = ((LEFT + RIGHT) / 2, SIZE.1 as i32 - 18);
    root.draw(&words(middle, x_name.to_owned(), HPos::Center, VPos::Top))?;

    for (colour, points) in curves {
        let colour = CURVES[(*colour).min(CURVES.len() - 1)];
        let places: Vec<(i32, i32)> = points.iter().map(|&(x, y)| (across(x), up(y))).collect();
        if places.len() <= FEW {
            for &place in &places {
                root.draw(&Circle::new(place, 3, colour.filled()))?;
            }
        }
        root.draw(&PathElement::new(places, colour.stroke_width(2)))?;
    }
    root.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(points: &[(f64, f64)]) -> Curve {
        Curve { points: points.to_vec(), colour: 1 }
    }

    #[test]
    fn lines_ticks_and_roles_are_in_the_picture() {
        let points: Vec<(f64, f64)> =
            (0..100).map(|n| (f64::from(n), 8.0 / f64::from(n + 1))).collect();
        let svg =
            svg(&[curve(&points), curve(&[(0.0, 8.0), (99.0, 3.0)])], "steps & <more>").unwrap();
        assert!(svg.starts_with("<svg viewBox=") && svg.trim_end().ends_with("</svg>"), "{svg}");
        // Six or fewer rules, a line a curve, the points of the short one.
        assert_eq!(svg.matches("#030303").count(), 2 + 2, "{svg}");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("steps &amp; &lt;more&gt;"), "{svg}");
        // The first point lies at the left and high, the last at the right.
        let line = svg.rsplit("points=\"").next().unwrap();
        assert!(line.starts_with(&format!("{LEFT},")), "{line}");
    }

    #[test]
    fn one_point_is_a_picture_and_none_an_error() {
        assert!(svg(&[curve(&[(3.0, 3.0)])], "steps").unwrap().contains("<circle"));
        assert!(svg(&[curve(&[(f64::NAN, 1.0)])], "steps").is_err());
        assert!(svg(&[], "steps").is_err());
        assert!(svg(&[curve(&[(0.0, f64::MAX), (f64::MAX, 0.0)])], "steps").is_ok());
    }
}
