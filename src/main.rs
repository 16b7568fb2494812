//! The `bdr` command: parses the arguments, runs a command, turns its outcome into an exit code (0 done, 1 it failed while running, 2 wrong
//! usage or settings).

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bigdatariver::cli;
use bigdatariver::config::Settings;
use clap::{CommandFactory, Parser, Subcommand};

/// Recommendations from a live stream of clicks and purchases, in one binary on one node.
#[derive(Debug, Parser)]
#[command(name = "bdr", version, after_help = "Start with `bdr demo`. Settings: `bdr config show`.")]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the node: take events in, train after each window, answer
    Serve(SettingsArguments),
    /// Run a whole node on an embedded default with generated traffic, and watch it
    Demo(cli::demo::Arguments),
    /// Stream events from a file or standard input to a node, acknowledged
    Send(cli::send::Arguments),
    /// Write generated shop traffic to standard output, as NDJSON in the talk's schema
    Generate(cli::generate::Arguments),
    /// Train on a file of events without a node, and judge the recommendations
    Train {
        #[command(flatten)]
        arguments: cli::train::Arguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Search the settings of the model that recommend best on a file of events
    Tune {
        #[command(flatten)]
        arguments: cli::tune::Arguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Build the next version from the event log under other settings, compare it with the served one, and switch
    Replay {
        #[command(flatten)]
        arguments: cli::replay::Arguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Write interests, events, factors, recommendations or also-bought lists as a table
    Export {
        #[command(flatten)]
        arguments: cli::export::Arguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Copy everything a node keeps, while it runs, and verify the copy
    Backup {
        #[command(flatten)]
        arguments: cli::backup::BackupArguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Restore a backup into an empty data directory
    Restore {
        #[command(flatten)]
        arguments: cli::backup::RestoreArguments,
        #[command(flatten)]
        settings: SettingsArguments,
    },
    /// Show or check the settings
    Config {
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigAction {
    /// Print the settings in force, each with its default and meaning
    Show(SettingsArguments),
    /// Check the settings without running anything
    Check(SettingsArguments),
}

/// Where settings come from.
#[derive(Debug, clap::Args)]
struct SettingsArguments {
    /// A settings file in TOML, such as config/bdr.toml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The directory for all data (the setting data.dir)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// One setting, such as window.every=5s; can be given again and again
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

impl SettingsArguments {
    fn load(&self) -> Result<Settings, Failure> {
        let environment = std::env::vars_os();
        cli::config::load(self.config.as_deref(), environment, self.data_dir.as_deref(), &self.set)
            .map_err(|error| Failure::Usage(error.into()))
    }
}

/// Why a command did not do what it was to do.
enum Failure {
    /// Wrong usage or settings.
    Usage(anyhow::Error),
    /// It failed while running.
    Running(anyhow::Error),
    /// Lines were refused; the command said which.
    Rejected,
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Running(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Running(error.into())
    }
}

fn main() -> ExitCode {
    let _failpoints = fail::FailScenario::setup();
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(Failure::Running(error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Running(error)) => complain(&error, 1),
        Err(Failure::Usage(error)) => complain(&error, 2),
        Err(Failure::Rejected) => ExitCode::FAILURE,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn complain(error: &anyhow::Error, code: u8) -> ExitCode {
    // Standard error may be closed; the exit code still tells.
    let _ = writeln!(io::stderr(), "bdr: {}", with_causes(error));
    ExitCode::from(code)
}

/// The error and what caused it. Messages of the library name their cause themselves, since they are logged too;
/// what was said is not said again.
fn with_causes(error: &anyhow::Error) -> String {
    let mut message = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !message.contains(&cause) {
            message = format!("{message}: {cause}");
        }
    }
    message
}

fn run(arguments: Arguments) -> Result<(), Failure> {
    let Some(command) = arguments.command else {
        Arguments::command().print_help()?;
        return Ok(());
    };
    match command {
        Command::Serve(arguments) => {
            let settings = arguments.load()?;
            cli::logging::start(&settings.config.log);
            cli::serve::run(&settings)?;
        }
        Command::Demo(arguments) => cli::demo::run(&arguments)?,
        Command::Send(arguments) => {
            if !cli::send::run(&arguments)? {
                return Err(Failure::Rejected);
            }
        }
        // Not the locked handle's own buffer: the chunks are large already.
        Command::Generate(arguments) => cli::generate::run(&arguments, &mut cli::raw_stdout()?)?,
        Command::Train { arguments, settings } => {
            let settings = settings.load()?;
            cli::logging::start(&settings.config.log);
            cli::train::run(&arguments, &settings.config)?;
        }
        Command::Tune { arguments, settings } => {
            let settings = settings.load()?;
            cli::logging::start(&settings.config.log);
            cli::tune::run(&arguments, &settings.config)?;
        }
        Command::Replay { arguments, settings } => {
            let loaded = settings.load()?;
            cli::logging::start(&loaded.config.log);
            cli::replay::run(&arguments, &loaded.config, &settings.set)?;
        }
        Command::Export { arguments, settings } => {
            let settings = settings.load()?;
            cli::logging::start(&settings.config.log);
            cli::export::run(&arguments, &settings.config)?;
        }
        Command::Backup { arguments, settings } => {
            let settings = settings.load()?;
            cli::logging::start(&settings.config.log);
            cli::backup::backup(&arguments, &settings.config)?;
        }
        Command::Restore { arguments, settings } => {
            let settings = settings.load()?;
            cli::logging::start(&settings.config.log);
            cli::backup::restore(&arguments, &settings.config)?;
        }
        Command::Config { action: ConfigAction::Show(arguments) } => {
            cli::config::show(&arguments.load()?, &mut io::stdout())?;
        }
        Command::Config { action: ConfigAction::Check(arguments) } => {
            cli::config::check(&arguments.load()?, &mut io::stdout())?;
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "bdr", &mut script);
            io::stdout().write_all(&script)?;
        }
    }
    Ok(())
}
