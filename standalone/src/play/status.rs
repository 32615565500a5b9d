//! What the display shows: a [`View`] becomes lines of styled text, no wider than the terminal.

use super::keys::{Keyboard, PIANO};

/// Columns of the level meter; each is 60 / 24 dB.
const METER: usize = 24;
const LOWEST_DB: f32 = -60.0;
/// Above this the meter warns: the next note may be bent by the limiter.
const LOUD_DB: f32 = -3.0;
/// Share of real time above which little is left for a surprise.
const BUSY: f32 = 0.8;

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As the terminal writes.
    Plain,
    /// What matters.
    Bold,
    /// What only explains.
    Dim,
    /// All is well.
    Good,
    /// Look here.
    Warning,
    /// A key that is down.
    Down,
}

/// Pieces of text, side by side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line(pub Vec<(Look, String)>);

impl Line {
    fn add(&mut self, look: Look, text: impl Into<String>) -> &mut Self {
        self.0.push((look, text.into()));
        self
    }

    /// A value and what it is.
    fn value(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.add(Look::Dim, format!("   {name} ")).add(Look::Plain, value)
    }

    /// Characters in all.
    fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// What fits into so many columns.
    fn cut(mut self, columns: usize) -> Self {
        let mut left = columns;
        for (_, text) in &mut self.0 {
            *text = text.chars().take(left).collect();
            left -= text.chars().count();
        }
        self
    }
}

/// Everything that is shown.
#[derive(Debug, Clone)]
pub struct View {
    /// Name of the model.
    pub model: String,
    /// Name of the device; none while it is waited for.
    pub device: Option<String>,
    /// Rate of the device.
    pub rate_hz: u32,
    /// From a key to the ear, as far as is known.
    pub latency_ms: f64,
    /// Sound that lies ready.
    pub margin_ms: f64,
    /// Sound played so far.
    pub seconds: f64,
    /// Loudest sample since the last view, 0 to 1.
    pub peak: f32,
    /// Share of real time that the generator needs.
    pub load: f32,
    /// Voices that sound.
    pub voices: u32,
    /// Times that sound was missing.
    pub underruns: u64,
    /// How boldly samples are drawn.
    pub temperature: f32,
    /// Which take it is.
    pub seed: u64,
    /// Name of the class, of a model that has classes.
    pub class: Option<String>,
    /// MIDI inputs that are listened to.
    pub inputs: Vec<String>,
    /// The computer's keys.
    pub keyboard: Keyboard,
}

impl View {
    /// The lines, for a terminal of so many columns and a level that falls slowly.
    pub fn lines(&self, level_db: f32, columns: usize) -> Vec<Line> {
        let lines = [
            self.title(columns),
            self.levels(level_db),
            self.settings(),
            Line::default(),
            self.keys("w e   t y u   o p", "   "),
            self.keys("a s d f g h j k l ;", "  "),
            Line::default(),
            help("z x", "octave", "up down", "temperature", "space", "all notes off"),
            help("c v", "velocity", "left right", "seed", "enter", "a sound without end"),
            help("tab", "class", "", "", "esc", "quit"),
        ];
        lines.into_iter().map(|line| line.cut(columns)).collect()
    }

    fn title(&self, columns: usize) -> Line {
        let mut line = Line::default();
        line.add(Look::Bold, format!(" {}", self.model));
        let minutes = (self.seconds / 60.0) as u64;
        line.add(Look::Dim, format!("   {minutes}:{:02}", self.seconds as u64 % 60));
        let mut right = Line::default();
        match &self.device {
            Some(device) => right
                .add(Look::Plain, device.clone())
                .add(Look::Dim, format!("   {} Hz", self.rate_hz))
                .add(Look::Dim, format!("   latency {:.0} ms", self.latency_ms)),
            None => right.add(Look::Warning, "waiting for a sound device"),
        };
        // To the right edge where there is room, but not out of sight on a wide screen.
        let gap = columns.min(96).saturating_sub(line.width() + right.width() + 1).max(3);
        line.add(Look::Plain, " ".repeat(gap));
        line.0.extend(right.0);
        line
    }

    fn levels(&self, level_db: f32) -> Line {
        let mut line = Line::default();
        let share = ((level_db - LOWEST_DB) / -LOWEST_DB).clamp(0.0, 1.0);
        let lit = (share * METER as f32).round() as usize;
        let look = if level_db > LOUD_DB { Look::Warning } else { Look::Good };
        line.add(Look::Plain, " ")
            .add(look, "━".repeat(lit))
            .add(Look::Dim, "─".repeat(METER - lit))
            .add(Look::Plain, format!(" {}", decibels(level_db)));
        let busy = if self.load > BUSY { Look::Warning } else { Look::Plain };
        line.value("voices", format!("{:<2}", self.voices))
            .add(Look::Dim, "  load ")
            .add(busy, format!("{:3.0} %", 100.0 * self.load))
            .value("ready", format!("{:3.0} ms", self.margin_ms));
        let look = if self.underruns > 0 { Look::Warning } else { Look::Plain };
        line.add(Look::Dim, "   underruns ").add(look, self.underruns.to_string());
        line
    }

    fn settings(&self) -> Line {
        let mut line = Line::default();
        line.add(Look::Dim, " temperature ").add(Look::Plain, format!("{:.2}", self.temperature));
        line.value("seed", self.seed.to_string());
        if let Some(class) = &self.class {
            line.value("class", class.clone());
        }
        line.value("octave", format!("C{}", self.keyboard.octave));
        line.value("velocity", self.keyboard.velocity.to_string());
        if !self.inputs.is_empty() {
            line.value("MIDI", self.inputs.join(", "));
        }
        line
    }

    /// One row of keys; those that sound are shown as pressed.
    fn keys(&self, row: &str, indent: &str) -> Line {
        let mut line = Line::default();
        line.add(Look::Plain, indent);
        for letter in row.chars() {
            let sounds = self.keyboard.sounding().any(|other| other == letter);
            let look = match () {
                () if sounds => Look::Down,
                () if PIANO.contains(letter) => Look::Bold,
                () => Look::Plain,
            };
            line.add(look, letter);
        }
        line
    }
}

fn help(key: &str, does: &str, key2: &str, does2: &str, key3: &str, does3: &str) -> Line {
    let mut line = Line::default();
    line.add(Look::Plain, format!(" {key:4}")).add(Look::Dim, format!("{does:12}"));
    line.add(Look::Plain, format!("{key2:11}")).add(Look::Dim, format!("{does2:15}"));
    line.add(Look::Plain, format!("{key3:6}")).add(Look::Dim, does3);
    line
}

fn decibels(level_db: f32) -> String {
    if level_db <= LOWEST_DB { "  silent".into() } else { format!("{level_db:5.1} dB") }
}

/// A magnitude in dB, no lower than the meter goes.
pub fn level_db(peak: f32) -> f32 {
    if peak > 0.0 { (20.0 * libm::log10f(peak)).max(LOWEST_DB) } else { LOWEST_DB }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        View {
            model: "built-in instruments".into(),
            device: Some("JACK Output".into()),
            rate_hz: 48_000,
            latency_ms: 31.4,
            margin_ms: 19.6,
            seconds: 83.0,
            peak: 0.5,
            load: 0.25,
            voices: 3,
            underruns: 0,
            temperature: 0.6,
            seed: 7,
            class: Some("alice".into()),
            inputs: vec!["Keystation".into()],
            keyboard: Keyboard::new(false),
        }
    }

    fn text(lines: &[Line]) -> String {
        let line = |line: &Line| line.0.iter().map(|(_, text)| text.as_str()).collect::<String>();
        lines.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn everything_worth_knowing_is_there() {
        let text = text(&view().lines(-6.0, 100));
        for part in [
            "built-in instruments   1:23",
            "JACK Output   48000 Hz   latency 31 ms",
            " -6.0 dB   voices 3 ",
            "load  25 %   ready  20 ms   underruns 0",
            "temperature 0.60   seed 7   class alice   octave C4   velocity 100   MIDI Keystation",
            "w e   t y u   o p",
        ] {
            assert!(text.contains(part), "{part}:\n{text}");
        }
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        for columns in [0, 1, 20, 79, 200] {
            for line in view().lines(-6.0, columns) {
                assert!(line.width() <= columns);
            }
        }
    }

    #[test]
    fn the_meter_knows_silence_and_too_much() {
        assert_eq!(level_db(0.0), LOWEST_DB);
        assert_eq!(level_db(1.0), 0.0);
        let looks = |db| view().lines(db, 100)[1].0[1].clone();
        assert_eq!(looks(0.0), (Look::Warning, "━".repeat(METER)));
        assert_eq!(looks(-30.0), (Look::Good, "━".repeat(METER / 2)));
        assert!(text(&view().lines(LOWEST_DB, 100)).contains("silent"));
    }

    #[test]
    fn trouble_is_marked() {
        let lines = View { device: None, underruns: 2, load: 0.9, ..view() }.lines(-6.0, 100);
        let marked =
            |text: &str| lines.iter().any(|line| line.0.contains(&(Look::Warning, text.into())));
        assert!(marked("waiting for a sound device") && marked("2") && marked(" 90 %"));
    }
}
