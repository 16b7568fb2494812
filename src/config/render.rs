//! Writes settings as documented TOML: what is in force, what it means, what is allowed, and who changed it.
//!
//! With nothing set the text is `config/bdr.toml`, byte for byte. Whatever is set, the text is a valid settings file again.

use super::{InForce, Settings};

const HEAD: &str = "\
# Settings of BigDataRiver, each with its meaning, what is allowed and its value.
#
# Every setting can be left out; then its default holds. Later wins, in this order:
#   1. a file such as this one:  bdr serve --config bdr.toml
#   2. the environment:          BDR__WINDOW__EVERY=5s
#   3. the command line:         --set window.every=5s
# `bdr config show` prints the settings in force in this form; `bdr config check` only checks them.
";

/// The width that comments are wrapped to.
const WIDTH: usize = 100;

/// The settings as TOML with comments.
pub fn render(settings: &Settings) -> String {
    let mut text = HEAD.to_owned();
    let mut section = "";
    for entry in &settings.in_force {
        text.push('\n');
        if entry.setting.section() != section {
            section = entry.setting.section();
            text += &["[", section, "]\n"].concat();
        }
        push_entry(&mut text, entry);
    }
    text
}

fn push_entry(text: &mut String, entry: &InForce) {
    let setting = entry.setting;
    push_comment(text, setting.meaning);
    push_comment(text, &format!("Allowed: {}.", setting.kind.allowed()));
    let value = entry.value.to_string();
    if value != setting.default {
        push_comment(text, &format!("Default: {}. This value comes from {}.", setting.default, entry.source));
    }
    *text += &[setting.key(), " = ", &value, "\n"].concat();
}

/// Appends `words` as comment lines. Control characters, which a path can hold and a comment cannot, become question marks.
fn push_comment(text: &mut String, words: &str) {
    let words = words.replace(|character: char| character.is_control(), "?");
    let mut column = 0;
    for word in words.split(' ') {
        let width = word.chars().count();
        if column == 0 || column + 1 + width > WIDTH {
            if column > 0 {
                text.push('\n');
            }
            text.push('#');
            column = 1;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + width;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::table::SETTINGS;
    use crate::config::{Config, Raw};

    /// `bdr config show > config/bdr.toml` writes it anew after a change of the table.
    const SHIPPED: &str = include_str!("../../config/bdr.toml");

    fn read_back(text: &str) -> Settings {
        let mut raw = Raw::default();
        raw.file(Path::new("config/bdr.toml"), text).unwrap();
        raw.check().unwrap()
    }

    #[test]
    fn the_shipped_file_is_what_is_shown_with_nothing_set() {
        assert_eq!(render(&Raw::default().check().unwrap()), SHIPPED);
    }

    #[test]
    fn the_shipped_file_sets_every_setting_to_its_default() {
        assert_eq!(read_back(SHIPPED).config, Config::default());
        let file: toml::Table = SHIPPED.parse().unwrap();
        for setting in SETTINGS {
            assert!(file[setting.section()].get(setting.key()).is_some(), "{} is missing", setting.name);
        }
    }

    #[test]
    fn a_changed_setting_shows_its_default_and_who_changed_it_and_reads_back() {
        let mut raw = Raw::default();
        raw.file(Path::new("my\nfile.toml"), "[http]\nlisten = 'localhost:80'\nworkers = 0\n").unwrap();
        raw.argument("window.every=90s").unwrap();
        raw.argument(r#"data.dir="C:\\a \"quoted\"\nname""#).unwrap();
        let settings = raw.check().unwrap();
        let text = render(&settings);
        assert!(text.contains(
            "# Default: \"127.0.0.1:8000\". This value comes from my?file.toml.\nlisten = \"localhost:80\"\n"
        ));
        assert!(text.contains("# Default: \"1m\". This value comes from --set.\nevery = \"1m 30s\"\n"));
        assert_eq!(text.matches("# Default:").count(), 3, "a setting set to its default is not a change");
        assert_eq!(read_back(&text).config, settings.config);
    }

    #[test]
    fn comments_are_wrapped() {
        for line in SHIPPED.lines() {
            assert!(line.chars().count() <= WIDTH + 5, "{line}");
        }
    }
}
