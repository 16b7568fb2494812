//! Generated shop traffic with tastes in it, so that good recommendations exist to be found: for the demo, for load, for tests.
//!
//! Every product belongs to a group, every user has one or two favourite groups, and four in five events fall on those. Within a group
//! products are popular as Zipf says, and some users are busier than others. One event in eight is a purchase, nearly always of what the
//! user clicked on before. Lines are in the talk's schema; the same seed gives the same bytes for ever.

use crate::random::SplitMix64;

/// There are no more groups than this.
const MOST_GROUPS: u32 = 8;
/// A group has at least so many products, where there are enough.
const LEAST_GROUP: u32 = 5;
/// One event in so many falls anywhere, not on a favourite group.
const ANYWHERE: u32 = 5;
/// One event in so many is a purchase.
const PURCHASES: u32 = 8;
/// Between one event and the next, in milliseconds.
const STEP_MILLIS: u64 = 40;
/// 2026-01-01T00:00:00Z, in seconds since 1970.
const BEGINNING: i64 = 1_767_225_600;

/// What to generate.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Users are numbered from 1 to this; at least one.
    pub users: u32,
    /// Products are numbered from 1 to this; at least one.
    pub products: u32,
    /// Where all chance comes from.
    pub seed: u64,
}

/// Writes one line after another.
#[derive(Debug)]
pub struct Generator {
    settings: Settings,
    groups: u32,
    random: SplitMix64,
    /// Which place in a group a draw falls on.
    places: Alias,
    /// Members of each product that never change, as text.
    product_texts: Texts,
    user_texts: Texts,
    /// What each user clicked on last, 0 for nothing yet.
    last_clicks: Vec<u32>,
    events: u64,
    second: u64,
    second_text: String,
}

impl Generator {
    /// A generator at its first line. Counts of 0 mean 1.
    pub fn new(settings: Settings) -> Self {
        let settings = Settings { users: settings.users.max(1), products: settings.products.max(1), ..settings };
        let groups = (settings.products / LEAST_GROUP).clamp(1, MOST_GROUPS);
        Self {
            settings,
            groups,
            random: SplitMix64::new(settings.seed),
            places: Alias::zipf(settings.products.div_ceil(groups)),
            product_texts: Texts::of(settings.products, |product, out| {
                product_text(product, groups, settings.seed, out);
            }),
            user_texts: Texts::of(settings.users, |user, out| user_text(user, settings.seed, out)),
            last_clicks: vec![0; settings.users as usize],
            events: 0,
            second: u64::MAX,
            second_text: String::new(),
        }
    }

    /// How many groups of products there are.
    pub fn groups(&self) -> u32 {
        self.groups
    }

    /// The group of a product, below [`Generator::groups`].
    pub fn group_of(&self, product: u32) -> u32 {
        (product - 1) % self.groups
    }

    /// A user's two favourite groups; they can be the same.
    pub fn favourites(&self, user: u32) -> [u32; 2] {
        favourites(user, self.groups, self.settings.seed)
    }

    /// Appends the next line, with its line end.
    pub fn write_line(&mut self, out: &mut Vec<u8>) {
        let user = self.draw_user();
        let (product, is_purchase) = self.draw_product(user);
        out.extend_from_slice(b"{\"date_time\":\"");
        self.write_time(out);
        out.extend_from_slice(self.user_texts.get(user));
        out.extend_from_slice(self.product_texts.get(product));
        out.extend_from_slice(if is_purchase { b"1}\n" } else { b"0}\n" });
        self.events += 1;
    }

    /// The smaller of two draws half of the time: a user near the front is about three times as busy as one at the end.
    fn draw_user(&mut self) -> u32 {
        let bits = self.random.next_u64();
        let draw = |bits: u64| ((bits & 0xffff_ffff) * u64::from(self.settings.users)) >> 32;
        let (first, second) = (draw(bits), draw(bits >> 32));
        let user = if bits & 1 == 0 { first.min(second) } else { first };
        user as u32 + 1
    }

    fn draw_product(&mut self, user: u32) -> (u32, bool) {
        let chance = self.random.next_u64() as u32;
        let last_click = &mut self.last_clicks[user as usize - 1];
        let is_purchase = chance.is_multiple_of(PURCHASES);
        if is_purchase && *last_click > 0 {
            return (*last_click, true);
        }
        let group = if (chance >> 8).is_multiple_of(ANYWHERE) {
            self.random.below(self.groups)
        } else {
            favourites(user, self.groups, self.settings.seed)[(chance >> 30) as usize & 1]
        };
        let place = self.places.draw(&mut self.random);
        // The last places of some groups are beyond the last product.
        let product = (place * self.groups + group) % self.settings.products + 1;
        *last_click = product;
        (product, is_purchase)
    }

    fn write_time(&mut self, out: &mut Vec<u8>) {
        let millis = self.events * STEP_MILLIS;
        let (second, millis) = (millis / 1000, millis % 1000);
        if second != self.second {
            self.second = second;
            let time = jiff::Timestamp::from_second(BEGINNING + second as i64).unwrap_or_default();
            time.to_string().trim_end_matches('Z').clone_into(&mut self.second_text);
        }
        out.extend_from_slice(self.second_text.as_bytes());
        let digit = |value: u64| b'0' + (value % 10) as u8;
        out.extend_from_slice(&[b'.', digit(millis / 100), digit(millis / 10), digit(millis), b'Z', b'"']);
    }
}

fn favourites(user: u32, groups: u32, seed: u64) -> [u32; 2] {
    let mut random = SplitMix64::for_row(seed, u64::from(user));
    [random.below(groups), random.below(groups)]
}

fn user_text(user: u32, seed: u64, out: &mut Vec<u8>) {
    let mut random = SplitMix64::for_row(seed ^ 1, u64::from(user));
    let mut member = |name: &str, value: u32| push_member(out, name, value);
    member("site_name", random.below(40) + 1);
    member("user_location_country", random.below(200) + 1);
    member("user_location_region", random.below(1000) + 1);
    member("user_location_city", random.below(50_000) + 1);
    member("user_id", user);
    member("is_mobile", random.below(2));
}

fn product_text(product: u32, groups: u32, seed: u64, out: &mut Vec<u8>) {
    let mut random = SplitMix64::for_row(seed ^ 2, u64::from(product));
    let mut member = |name: &str, value: u32| push_member(out, name, value);
    member("product", product);
    member("channel", random.below(10));
    member("product_generic_category", (product - 1) % groups);
    member("product_specific_category", random.below(20_000) + 1);
    out.extend_from_slice(b",\"is_purchase\":");
}

fn push_member(out: &mut Vec<u8>, name: &str, value: u32) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Texts numbered from 1, one after the other in memory.
#[derive(Debug)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Texts {
    fn of(count: u32, write: impl Fn(u32, &mut Vec<u8>)) -> Self {
        let mut texts = Self { bytes: Vec::new(), ends: vec![0] };
        for number in 1..=count {
            write(number, &mut texts.bytes);
            texts.ends.push(texts.bytes.len() as u32);
        }
        texts
    }

    fn get(&self, number: u32) -> &[u8] {
        &self.bytes[self.ends[number as usize - 1] as usize..self.ends[number as usize] as usize]
    }
}

/// Draws from a fixed distribution in constant time (Walker 1977; the tables as Vose 1991 builds them).
#[derive(Debug)]
struct Alias {
    /// How much of each column is its own, of 2^32.
    own: Vec<u64>,
    other: Vec<u32>,
}

impl Alias {
    /// Place k of `count` is drawn in proportion to 1 / (k + 1).
    fn zipf(count: u32) -> Self {
        let weights: Vec<f64> = (1..=count).map(|place| 1.0 / f64::from(place)).collect();
        let scale = f64::from(count) / weights.iter().sum::<f64>();
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) = (0..count).partition(|&place| shares[place as usize] < 1.0);
        let mut alias = Self { own: vec![1 << 32; count as usize], other: (0..count).collect() };
        while let (Some(less), Some(&more)) = (small.pop(), large.last()) {
            alias.own[less as usize] = (shares[less as usize] * 4_294_967_296.0) as u64;
            alias.other[less as usize] = more;
            shares[more as usize] -= 1.0 - shares[less as usize];
            if shares[more as usize] < 1.0 {
                large.pop();
                small.push(more);
            }
        }
        alias
    }

    fn draw(&self, random: &mut SplitMix64) -> u32 {
        let bits = random.next_u64();
        let column = ((bits >> 32) * self.own.len() as u64) >> 32;
        if bits & 0xffff_ffff < self.own[column as usize] { column as u32 } else { self.other[column as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Schema, ndjson};
    use crate::ids::Id;

    fn lines(settings: Settings, count: usize) -> (Generator, Vec<u8>) {
        let (mut generator, mut out) = (Generator::new(settings), Vec::new());
        for _ in 0..count {
            generator.write_line(&mut out);
        }
        (generator, out)
    }

    fn parsed(bytes: &[u8]) -> impl Iterator<Item = (u32, u32, bool)> {
        let number = |id: Id<'_>| if let Id::Number(number) = id { number as u32 } else { panic!("{id} is no number") };
        bytes.trim_ascii_end().split(|&byte| byte == b'\n').map(move |line| {
            let event = ndjson::parse(line, Schema::Talk, 0).unwrap();
            (number(event.user), number(event.product), event.is_purchase)
        })
    }

    #[test]
    fn every_line_is_an_event_of_the_talk_by_known_users_on_known_products() {
        for (users, products) in [(1, 1), (3, 7), (1000, 200)] {
            let (_, out) = lines(Settings { users, products, seed: 7 }, 2000);
            assert!(
                parsed(&out).all(|(user, product, _)| (1..=users).contains(&user) && (1..=products).contains(&product))
            );
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_for_ever() {
        let settings = Settings { users: 100, products: 50, seed: 42 };
        let (_, out) = lines(settings, 1000);
        assert_eq!(out, lines(settings, 1000).1);
        assert_ne!(out, lines(Settings { seed: 43, ..settings }, 1000).1);
        // A change here breaks what users compare over versions.
        assert_eq!(crc32c::crc32c(&out), 2_974_794_438);
    }

    #[test]
    fn tastes_popularity_and_purchases_are_as_promised() {
        let (generator, out) = lines(Settings { users: 500, products: 400, seed: 1 }, 50_000);
        let events: Vec<_> = parsed(&out).collect();
        let share = |holds: &dyn Fn(&(u32, u32, bool)) -> bool| {
            events.iter().filter(|event| holds(event)).count() as f64 / events.len() as f64
        };
        let favourite = share(&|&(user, product, _)| generator.favourites(user).contains(&generator.group_of(product)));
        assert!((0.78..0.88).contains(&favourite), "{favourite}");
        let purchases = share(&|event| event.2);
        assert!((0.11..0.14).contains(&purchases), "{purchases}");
        // The first place of fifty takes 1 / (1 + 1/2 + ... + 1/50) = 0.22 of each of the eight groups.
        let first_places = share(&|&(_, product, _)| product <= 8);
        assert!((0.20..0.25).contains(&first_places), "{first_places}");
    }
}
