//! Random clauses over the columns that filter and some that do not, with values that occur on the
//! page. What they are asked of is left to the tests.

use std::fmt::Write as _;

use e2e::Session;

/// Values that really occur, so that clauses match something.
pub struct Facts {
    times: Vec<String>,
    posts: Vec<String>,
    ids: Vec<String>,
}

impl Facts {
    pub fn gather(session: &mut Session) -> Facts {
        let mut column = |sql: &str| session.column(sql).unwrap();
        Facts {
            times: column(
                "SELECT t AT TIME ZONE 'UTC' || 'Z' FROM (SELECT updated_at FROM copy UNION SELECT inserted_at FROM copy) t (t) ORDER BY t",
            ),
            posts: column("SELECT DISTINCT post_id FROM copy WHERE post_id IS NOT NULL ORDER BY 1"),
            ids: column("SELECT id FROM copy ORDER BY 1"),
        }
    }
}

pub struct Grammar<'a> {
    dice: u64,
    facts: &'a Facts,
}

impl<'a> Grammar<'a> {
    pub fn new(seed: u64, number: usize, facts: &'a Facts) -> Self {
        Self { dice: seed.wrapping_mul(1_000_003) + number as u64, facts }
    }

    /// splitmix64.
    pub fn roll(&mut self, below: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % below as u64) as usize
    }

    fn pick<'b>(&mut self, from: &'b [&'b str]) -> &'b str {
        from[self.roll(from.len())]
    }

    pub fn conjunction(&mut self) -> String {
        let mut clause = self.clause(2);
        for _ in 0..self.roll(4) {
            let next = self.clause(2);
            write!(clause, " AND {next}").unwrap();
        }
        clause
    }

    fn clause(&mut self, depth: usize) -> String {
        match self.roll(if depth == 0 { 6 } else { 9 }) {
            6 => format!("NOT ({})", self.clause(depth - 1)),
            7 => format!("({} OR {})", self.clause(depth - 1), self.clause(depth - 1)),
            8 => format!("({} AND {})", self.clause(depth - 1), self.clause(depth - 1)),
            _ => self.atom(),
        }
    }

    fn atom(&mut self) -> String {
        match self.roll(12) {
            0 | 1 => self.kind(),
            2 | 3 => self.tags(),
            4..=8 => self.time(),
            9 => {
                let posts = self.facts.posts.clone();
                let (one, two) = (&posts[self.roll(posts.len())], &posts[self.roll(posts.len())]);
                match self.roll(4) {
                    0 => format!("post_id = '{one}'"),
                    1 => format!("'{one}' = post_id"),
                    2 => format!("post_id IN ('{one}', '{two}')"),
                    _ => "post_id IS NULL".to_owned(),
                }
            }
            10 => {
                let ids = self.facts.ids.clone();
                let (one, two) = (&ids[self.roll(ids.len())], &ids[self.roll(ids.len())]);
                match self.roll(3) {
                    0 => format!("id IN ('{one}', '{two}')"),
                    1 => format!("id <> '{one}'"),
                    _ => format!("id > '{two}'"),
                }
            }
            _ => {
                let count = self.roll(40);
                let all = [
                    "seen",
                    "NOT seen",
                    "seen = true",
                    "has_phone IS DISTINCT FROM true",
                    "page_id = '100000000000001'",
                    "page_id <> '1'",
                ];
                match self.roll(2) {
                    0 => self.pick(&all).to_owned(),
                    _ => format!("{count} {} message_count", self.pick(&["<", ">=", "<>"])),
                }
            }
        }
    }

    fn kind(&mut self) -> String {
        let kinds = ["INBOX", "COMMENT", "RATING", "LIVESTREAM", "inbox"];
        let (one, two) = (self.pick(&kinds), self.pick(&kinds));
        match self.roll(8) {
            0 | 1 => format!("type = '{one}'"),
            2 => format!("'{one}' = type"),
            3 => format!("type IN ('{one}', '{two}')"),
            4 => format!("type = ANY(ARRAY['{one}', NULL, '{two}'])"),
            5 => format!("type <> '{one}'"),
            6 => format!("type NOT IN ('{one}', '{two}')"),
            _ => format!("type = (SELECT '{one}'::text FROM one)"),
        }
    }

    fn tags(&mut self) -> String {
        let ids = ["61", "62", "63", "66", "103", "999", "Đã mua"];
        let (one, two) = (self.pick(&ids), self.pick(&ids));
        match self.roll(9) {
            0 | 1 => format!("tags @> '{{{one}}}'"),
            2 => format!("'{{{one},{two}}}' <@ tags"),
            3 => format!("'{one}' = ANY(tags)"),
            4 => format!("tags && '{{{one},{two}}}'"),
            5 => format!("tags <@ '{{{one},{two}}}'"),
            6 => "tags = '{}'".to_owned(),
            7 => "tags @> '{}'".to_owned(),
            _ => format!("'{one}' <> ALL(tags)"),
        }
    }

    fn time(&mut self) -> String {
        let column = self.pick(&["updated_at", "updated_at", "inserted_at"]);
        let (operator, operand) = (self.pick(&["<", "<=", "=", ">=", ">"]), self.moment());
        match self.roll(6) {
            0..=2 => format!("{column} {operator} {operand}"),
            3 | 4 => format!("{operand} {operator} {column}"),
            _ => format!("{column} BETWEEN {operand} AND {}", self.moment()),
        }
    }

    fn moment(&mut self) -> String {
        let times = self.facts.times.clone();
        let time = &times[self.roll(times.len())];
        let days = self.roll(90);
        match self.roll(8) {
            0 | 1 => format!("'{time}'::timestamptz"),
            2 => format!("('{time}'::timestamptz + interval '1 microsecond')"),
            3 => format!("('{time}'::timestamptz - interval '1 second')"),
            4 => format!("date_trunc('second', '{time}'::timestamptz)"),
            5 => format!("(now() - interval '{days} days')"),
            6 => format!("(current_date - {days})"),
            _ => format!("(SELECT '{time}'::timestamptz FROM one)"),
        }
    }
}
