//! A small mutator: what libFuzzer does to an input, without its feedback from the program. The same seed, corpus and
//! dictionary make the same inputs on every machine.

/// Far past what fits one part of the targets' small limits, and still fast.
const LONGEST: usize = 4_096;

/// Makes one input after another.
pub(super) struct Mutator {
    random: Random,
    corpus: Vec<Vec<u8>>,
    tokens: Vec<Vec<u8>>,
}

impl Mutator {
    pub(super) fn new(seed: u64, corpus: Vec<Vec<u8>>, tokens: Vec<Vec<u8>>) -> Self {
        assert!(!corpus.is_empty() && !tokens.is_empty());
        Self {
            random: Random(seed),
            corpus,
            tokens,
        }
    }

    /// One of the corpus, changed in one to six places.
    pub(super) fn next(&mut self) -> Vec<u8> {
        let mut input = self.random.pick(&self.corpus).clone();
        for _ in 0..=self.random.below(6) {
            self.change(&mut input);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let random = &mut self.random;
        let at = random.below(input.len() + 1);
        let (start, end) = random.range(input.len());
        match random.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
            2 => drop(input.drain(start..end)),
            3 => input.truncate(at),
            4 => {
                let copy = input[start..end].to_vec();
                insert(input, at, &copy);
            }
            5 => {
                let copy = input[start..end].repeat(random.below(40));
                insert(input, at, &copy);
            }
            6 => {
                let other = random.pick(&self.corpus);
                let (start, end) = random.range(other.len());
                insert(input, at, &other[start..end]);
            }
            7 => {
                let token = random.pick::<Vec<u8>>(&self.tokens);
                let until = (at + token.len()).min(input.len());
                input.splice(at..until, token.iter().copied());
            }
            _ => insert(input, at, random.pick::<Vec<u8>>(&self.tokens)),
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if input.len() + bytes.len() <= LONGEST {
        input.splice(at..at, bytes.iter().copied());
    }
}

/// SplitMix64, by its published definition: ten lines here rather than a dependency whose next version may draw others.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn range(&mut self, len: usize) -> (usize, usize) {
        let (one, other) = (self.below(len + 1), self.below(len + 1));
        (one.min(other), one.max(other))
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }
}

/// The tokens of a libFuzzer dictionary: a line each, in quotes, with `\"`, `\\` and `\xNN` as escapes.
pub(super) fn read_dictionary(text: &str) -> Vec<Vec<u8>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix('"'));
    lines
        .map(|line| {
            let line = line.strip_suffix('"').expect("a token ends with a quote");
            let mut token = Vec::new();
            let mut rest = line.as_bytes();
            while let Some((first, after)) = rest.split_first() {
                rest = after;
                if *first != b'\\' {
                    token.push(*first);
                } else if let Some(after) = rest.strip_prefix(b"x") {
                    let digits = std::str::from_utf8(&after[..2]).unwrap();
                    token.push(u8::from_str_radix(digits, 16).unwrap());
                    rest = &after[2..];
                } else {
                    token.push(rest[0]);
                    rest = &rest[1..];
                }
            }
            token
        })
        .collect()
}
