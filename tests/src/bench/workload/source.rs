//! Files like those of a large program: names in nested directories, many small ones and a few large ones, text that
//! compresses as source code does, and some that differ little from each other.

use super::super::random::Random;

/// In one directory.
const SIBLINGS: usize = 12;
/// The place of the build file among its siblings. Build files are alike everywhere.
const BUILD: usize = 2;
const WORDS: usize = 2048;
const SYLLABLES: [&str; 24] = [
    "al", "ber", "con", "dex", "er", "fil", "gra", "hand", "in", "jo", "ker", "list", "mo", "node", "out", "pro",
    "que", "re", "set", "tion", "up", "val", "wri", "ze",
];
const KEYWORDS: [&str; 12] =
    ["let ", "if ", "return ", "for ", "match ", "pub fn ", "// ", "self.", "use ", "const ", "while ", "assert "];
const ENDS: [&str; 6] = [";\n", " {\n", ");\n", ",\n", "}\n", "\n\n"];

/// The files of a seed.
pub struct Source {
    seed: u64,
    words: Vec<String>,
    sizes: Vec<usize>,
}

impl Source {
    /// So many files of so many bytes together.
    pub fn new(seed: u64, files: usize, bytes: u64) -> Self {
        let mut random = Random::new(seed);
        let words = (0..WORDS).map(|_| word(&mut random)).collect();
        let weights: Vec<f64> = (0..files).map(|_| random.log_normal()).collect();
        let scale = bytes as f64 / weights.iter().sum::<f64>();
        let sizes = weights.into_iter().map(|weight| (weight * scale) as usize).collect();
        Self { seed, words, sizes }
    }

    /// Where a file is: below three or four directories.
    pub fn path(&self, file: usize) -> String {
        let directory = file / SIBLINGS;
        let part = |number: usize| &self.words[number % WORDS];
        let mut path = format!("{}-{}/", part(directory / 64), directory / 64);
        path += &format!("{}-{}/{}-{directory}/", part(directory / 8), directory / 8, part(directory));
        if directory % 2 == 1 {
            path += "detail/";
        }
        path + &match file % SIBLINGS {
            0 => "mod.rs".to_owned(),
            1 => "README.md".to_owned(),
            BUILD => "build.yaml".to_owned(),
            other => format!("{}_{other}.rs", part(file * 7)),
        }
    }

    /// Whether it is a script.
    pub fn is_executable(&self, file: usize) -> bool {
        file % 50 == 49
    }

    /// The file that a change touches.
    pub fn choose(&self, change: usize) -> usize {
        let number = Random::new(self.seed ^ (change as u64) << 20).below(self.sizes.len() as u64);
        usize::try_from(number).unwrap()
    }

    /// A file after so many changes, which only add lines.
    pub fn content(&self, file: usize, revision: usize) -> Vec<u8> {
        // Build files begin with the same text.
        let template = if file % SIBLINGS == BUILD { BUILD } else { file };
        let mut text = self.text(template, self.sizes[file]);
        if template != file {
            text.extend_from_slice(format!("name: {}\n", self.path(file)).as_bytes());
        }
        for number in 1..=revision {
            text.extend_from_slice(format!("// Change {number} of file {file}.\n").as_bytes());
        }
        text
    }

    fn text(&self, file: usize, bytes: usize) -> Vec<u8> {
        let mut random = Random::new(self.seed.wrapping_mul(0x1_0000_0001) ^ file as u64);
        let mut text = Vec::with_capacity(bytes + 64);
        // A file is about a few things, whose names it repeats.
        let topic: Vec<&str> = (0..24).map(|_| self.any_word(&mut random)).collect();
        while text.len() < bytes {
            let line = random.next();
            text.extend(std::iter::repeat_n(b' ', 4 * usize::from(line as u8 % 4)));
            text.extend_from_slice(pick(&KEYWORDS, line >> 8).as_bytes());
            for number in 0..=(line >> 16) % 5 {
                if number > 0 {
                    text.extend_from_slice(
                        pick(&[" ", ".", "(", ", ", " = ", "::"], line >> (24 + 4 * number)).as_bytes(),
                    );
                }
                let word = match random.next() % 8 {
                    0..5 => pick(&topic, random.next()),
                    _ => self.any_word(&mut random),
                };
                text.extend_from_slice(word.as_bytes());
            }
            text.extend_from_slice(pick(&ENDS, line >> 56).as_bytes());
        }
        text.truncate(bytes);
        text
    }

    fn any_word(&self, random: &mut Random) -> &str {
        // Some words are far more frequent than others.
        let bound = 1 + random.below(WORDS as u64);
        &self.words[usize::try_from(random.below(bound)).unwrap()]
    }
}

fn word(random: &mut Random) -> String {
    let count = 2 + random.next() % 3;
    (0..count).map(|_| pick(&SYLLABLES, random.next())).collect()
}

fn pick<'a>(from: &[&'a str], random: u64) -> &'a str {
    from[usize::try_from(random % from.len() as u64).unwrap()]
}
