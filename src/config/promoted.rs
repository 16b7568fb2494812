//! Settings that a promoted replay made the running ones: what they may be, and how they are kept.

use std::path::Path;

use toml::{Table, Value};

use super::{Config, Error, Raw};

/// The file in the data directory that keeps them. It counts more than the settings file and less than the environment and `--set`.
pub const FILE: &str = "promoted.toml";

/// The settings that a replay can have of its own: those that decide what is in a model.
const REPLAYED: [&str; 10] = [
    "als.rank",
    "als.iterations",
    "als.lambda",
    "als.alpha",
    "als.seed",
    "als.click_weight",
    "als.purchase_weight",
    "als.warm_start",
    "also_bought.score",
    "also_bought.max_products_per_user",
];

/// Why settings can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum NotReplayed {
    /// A setting is unknown or has a wrong value.
    #[error(transparent)]
    Setting(#[from] Error),
    /// A setting that a model does not depend on.
    #[error("`{0}` is no setting of a model: a replay can have its own {list}", list = REPLAYED.join(", "))]
    NotOfAModel(String),
    /// The kept file can't be read.
    #[error("{FILE} is not valid TOML: {0}")]
    Kept(#[from] toml::de::Error),
}

/// `config` with other settings, each as `section.key=value`.
pub fn replayed(config: &Config, set: &[String]) -> Result<Config, NotReplayed> {
    let mut raw = Raw::default();
    for argument in set {
        raw.argument(argument)?;
    }
    let other = raw.check()?.config;
    let mut replayed = config.clone();
    for argument in set {
        let name = argument.split('=').next().unwrap_or("").trim();
        let (als, also_bought) = (&mut replayed.als, &mut replayed.also_bought);
        match name {
            "als.rank" => als.rank = other.als.rank,
            "als.iterations" => als.iterations = other.als.iterations,
            "als.lambda" => als.lambda = other.als.lambda,
            "als.alpha" => als.alpha = other.als.alpha,
            "als.seed" => als.seed = other.als.seed,
            "als.click_weight" => als.click_weight = other.als.click_weight,
            "als.purchase_weight" => als.purchase_weight = other.als.purchase_weight,
            "als.warm_start" => als.warm_start = other.als.warm_start,
            "also_bought.score" => also_bought.score = other.also_bought.score,
            "also_bought.max_products_per_user" => {
                also_bought.max_products_per_user = other.also_bought.max_products_per_user;
            }
            _ => return Err(NotReplayed::NotOfAModel(name.to_owned())),
        }
    }
    Ok(replayed)
}

/// The text of the kept file after these settings were promoted too; `kept` is its text before, if there was one.
pub fn keep(kept: &str, set: &[String], when: &str) -> Result<String, NotReplayed> {
    let mut file: Table = kept.parse()?;
    let mut raw = Raw::default();
    for argument in set {
        raw.argument(argument)?;
    }
    for entry in raw.check()?.in_force {
        let promoted =
            set.iter().any(|argument| argument.split('=').next().is_some_and(|name| name.trim() == entry.setting.name));
        let section = entry.setting.section().to_owned();
        if promoted && let Value::Table(section) = file.entry(section).or_insert_with(|| Table::new().into()) {
            section.insert(entry.setting.key().to_owned(), entry.value);
        }
    }
    Ok(format!(
        "# Promoted by a replay, the last time at {when}. Delete this file to return to the settings before.\n\n{file}"
    ))
}

/// Where the file is in a data directory.
pub fn path(data_dir: &Path) -> std::path::PathBuf {
    data_dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(settings: &[&str]) -> Vec<String> {
        settings.iter().map(|setting| (*setting).to_owned()).collect()
    }

    #[test]
    fn every_setting_of_the_list_can_be_replayed_and_kept() {
        for name in REPLAYED {
            let setting = super::super::table::find(name).unwrap();
            let argument = set(&[&format!("{name}={}", setting.default.trim_matches('"'))]);
            assert_eq!(replayed(&Config::default(), &argument).unwrap(), Config::default(), "{name}");
            let kept = keep("", &argument, "now").unwrap();
            let mut raw = Raw::default();
            raw.file(Path::new(FILE), &kept).unwrap();
            assert_eq!(raw.check().unwrap().config, Config::default());
        }
    }

    #[test]
    fn other_settings_stay_as_they_are() {
        let mut config = Config::default();
        config.als.alpha = 7.0;
        let other = replayed(&config, &set(&["als.rank=32", "also_bought.score=llr"])).unwrap();
        assert_eq!((other.als.rank, other.als.alpha.to_string().as_str()), (32, "7"));
        assert_eq!(other.also_bought.score, super::super::Score::Llr);
        let error = |setting| replayed(&config, &set(&[setting])).unwrap_err().to_string();
        assert!(error("http.workers=3").contains("no setting of a model"));
        assert!(error("als.rnk=3").contains("did you mean `als.rank`"));
        assert!(error("als.rank=0").contains("1 to 256"), "{}", error("als.rank=0"));
    }

    #[test]
    fn what_was_promoted_before_stays() {
        let first = keep("", &set(&["als.rank=32"]), "monday").unwrap();
        let second = keep(&first, &set(&["als.alpha=1.5", "als.rank=16"]), "tuesday").unwrap();
        let file: Table = second.parse().unwrap();
        assert_eq!(file["als"]["rank"].as_integer(), Some(16));
        assert_eq!(file["als"]["alpha"].as_float(), Some(1.5));
    }
}
