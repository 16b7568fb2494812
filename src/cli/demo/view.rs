//! What the demo shows: how fast events come, how far the model is, and for three users what they did and what is recommended to them.

use std::time::Instant;

use console::{Term, style, truncate_str};

use super::traffic::SHOP;
use crate::actors::node::Node;
use crate::generate::Generator;
use crate::ids::Id;
use crate::model::{Model, Question};

/// The users that are shown, and how many are asked about at the end.
const SHOWN: [u32; 3] = [1, 2, 3];
const ASKED: u32 = 300;
const QUESTION: Question = Question { limit: 5, exclude_seen: true, popular_fallback: false };
/// What the groups of products are, so that a person sees tastes.
const GROUPS: [&str; 8] = ["garden", "books", "toys", "coffee", "shoes", "music", "bikes", "lamps"];

/// Draws the node's state.
pub(super) struct View {
    term: Term,
    /// Knows the tastes that recommendations should find; generates nothing.
    shop: Generator,
    lines_on_screen: usize,
    started: Instant,
    before: (Instant, u64),
}

impl View {
    /// Says what runs where.
    pub(super) fn new(node: &Node) -> Self {
        let (http, events) = (node.http_address(), node.events_address());
        println!("BigDataRiver demo: a whole node, with a generated shop streaming into it. Ctrl-C ends it.\n");
        println!("  ask it      curl 'http://{http}/bdr?user=1'");
        println!("  the model   http://{http}/model");
        println!("  metrics     http://{http}/metrics");
        println!("  send more   nc -N {} {} < events.ndjson\n", events.ip(), events.port());
        let now = Instant::now();
        Self { term: Term::stdout(), shop: Generator::new(SHOP), lines_on_screen: 0, started: now, before: (now, 0) }
    }

    /// Whether there is a terminal to draw on again and again.
    pub(super) fn is_live(&self) -> bool {
        self.term.is_term()
    }

    /// Shows the present state: in place on a terminal, else as one line.
    pub(super) fn draw(&mut self, node: &Node) {
        let model = node.site().served.model();
        let status = self.status(node, model.as_deref());
        if !self.is_live() {
            println!("{status}");
            return;
        }
        let mut lines = vec![status, String::new()];
        for user in SHOWN {
            lines.extend(self.user(node, model.as_deref(), user));
        }
        let width = self.term.size().1 as usize;
        // A terminal that is gone shows nothing, and the demo goes on.
        let _ = self.term.clear_last_lines(self.lines_on_screen);
        for line in &lines {
            let _ = self.term.write_line(&truncate_str(line, width.saturating_sub(1), "…"));
        }
        self.lines_on_screen = lines.len();
    }

    fn status(&mut self, node: &Node, model: Option<&Model>) -> String {
        let events = node.site().entrance.metrics.events_accepted.tcp.get();
        let now = Instant::now();
        let (then, events_then) = std::mem::replace(&mut self.before, (now, events));
        let rate = (events - events_then) as f64 / (now - then).as_secs_f64();
        let model = model.map_or_else(
            || "no model yet: the first window is open".to_owned(),
            |model| {
                let about = &model.about;
                format!(
                    "window {}, generation {}: {} interests, loss {:.4}, trained in {:.0} ms",
                    about.window,
                    about.generation,
                    about.interests,
                    about.loss,
                    about.seconds * 1000.0
                )
            },
        );
        format!("{:>3.0} s  {events} events ({rate:.0}/s)  {model}", (now - self.started).as_secs_f64())
    }

    /// Two lines: what a user did most, and what is recommended.
    fn user(&self, node: &Node, model: Option<&Model>, user: u32) -> [String; 2] {
        let site = node.site();
        let interests = site.live.read(|counters| counters.interests_of(&Id::Number(user.into()))).unwrap_or_default();
        let mut busiest = interests.clone();
        busiest.sort_by_key(|interest| std::cmp::Reverse((interest.counts.purchases, interest.counts.clicks)));
        let did = site.live.read(|counters| {
            let name = |product| counters.products().list().get(product).into_owned();
            let count = |interest: &crate::interests::Interest| {
                let counts = interest.counts;
                let bought =
                    if counts.purchases > 0 { format!(" bought {}×", counts.purchases) } else { String::new() };
                format!("{}{bought}", self.describe(&name(interest.product)))
            };
            busiest.iter().take(5).map(count).collect::<Vec<_>>().join(", ")
        });
        let recommended = model.map_or_else(String::new, |model| {
            let (products, _) = model.recommend(&interests, QUESTION);
            let names = products.iter().map(|&product| self.describe(&model.products().get(product)));
            names.collect::<Vec<_>>().join(", ")
        });
        let [first, second] = self.shop.favourites(user).map(|group| GROUPS[group as usize]);
        let likes = if first == second { first.to_owned() } else { format!("{first} and {second}") };
        [
            format!("{} likes {likes}: {did}", style(format!("user {user}")).bold()),
            format!("       {} {recommended}", style("recommended").green()),
        ]
    }

    fn describe(&self, product: &Id<'_>) -> String {
        match product {
            Id::Number(number) => format!("{} {number}", GROUPS[self.shop.group_of(*number as u32) as usize]),
            Id::Text(text) => text.to_string(),
        }
    }

    /// Says how it went: how often recommendations hit a taste that the model was never told of.
    pub(super) fn end(&mut self, node: &Node) {
        self.draw(node);
        let Some(model) = node.site().served.model() else {
            println!("\nNo window closed yet: run it for more than 5 s to see a model.");
            return;
        };
        let (mut hits, mut all) = (0u32, 0u32);
        for user in 1..=ASKED {
            let interests = node.site().live.read(|counters| counters.interests_of(&Id::Number(user.into())));
            let (products, _) = model.recommend(&interests.unwrap_or_default(), QUESTION);
            for product in products {
                if let Id::Number(number) = model.products().get(product) {
                    all += 1;
                    hits += u32::from(self.shop.favourites(user).contains(&self.shop.group_of(number as u32)));
                }
            }
        }
        println!(
            "\n{} generations.\nOf the new products recommended to {ASKED} users, {:.0} % are of a group that the user likes (by chance: 23 %).",
            model.about.generation,
            100.0 * f64::from(hits) / f64::from(all.max(1))
        );
    }
}
