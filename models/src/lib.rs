//! The models that come with the programs: their bytes are part of the program, so that it plays at once.
//! `docs/built-in-models.md` says how each was trained.

use std::path::Path;

use wavenet_engine::{Result, Weights};

/// A model that needs no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltIn {
    /// What a user calls it.
    pub name: &'static str,
    /// Its file.
    pub bytes: &'static [u8],
}

/// Keys: a piano, a plucked string and a breathy pad, one class each.
pub const INSTRUMENTS: BuiltIn =
    BuiltIn { name: "instruments", bytes: include_bytes!("../instruments.safetensors") };

/// The sounds of [`INSTRUMENTS`], for who needs their names before the model.
pub const SOUNDS: [&str; 3] = ["piano", "string", "wind-pad"];

/// A bird without keys of its own: it sings, faster or slower.
pub const BIRD: BuiltIn = BuiltIn { name: "bird", bytes: include_bytes!("../bird.safetensors") };

/// All of them; the first is played where none is asked for.
pub const ALL: [BuiltIn; 2] = [INSTRUMENTS, BIRD];

impl BuiltIn {
    /// The model.
    ///
    /// # Errors
    /// None: a test reads them all.
    pub fn weights(&self) -> Result<Weights> {
        Weights::from_bytes(self.bytes)
    }
}

/// What a user's choice of a model means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice<'a> {
    /// A model that needs no file.
    BuiltIn(BuiltIn),
    /// A file, there or not.
    File(&'a Path),
}

impl<'a> Choice<'a> {
    /// Nothing is the first built-in model; a name is that of a built-in model, unless a file has it.
    pub fn of(path: Option<&'a Path>) -> Self {
        let Some(path) = path else {
            return Self::BuiltIn(ALL[0]);
        };
        let named = ALL.into_iter().find(|model| Path::new(model.name) == path);
        named.filter(|_| !path.exists()).map_or(Self::File(path), Self::BuiltIn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_models_and_small() {
        for model in ALL {
            assert!(model.weights().is_ok(), "{}", model.name);
            assert_eq!(Choice::of(Some(Path::new(model.name))), Choice::BuiltIn(model));
        }
        assert!(ALL.iter().map(|model| model.bytes.len()).sum::<usize>() < 3_000_000);
        assert_eq!(Choice::of(None), Choice::BuiltIn(INSTRUMENTS));
        let other = Path::new("no-such-model");
        assert_eq!(Choice::of(Some(other)), Choice::File(other));
    }

    #[test]
    fn the_sounds_are_the_classes() {
        assert_eq!(INSTRUMENTS.weights().expect("a model").config().classes, SOUNDS);
    }
}
