use clap::{Args, Subcommand, ValueEnum};

use super::{ProjectArgs, RunArgs};
use crate::cli::oci::args::BundleArgs;
use crate::engine::oci::OciId;

/// `explain`: the launch plan in words.
#[derive(Debug, Args)]
#[command(subcommand_required = true, disable_help_subcommand = true)]
#[command(after_help = "Example: mydocker explain --run run --rootfs root_fs/rootfs --memory 64m /bin/true")]
pub struct ExplainArgs {
    /// How it is written
    #[arg(long, global = true, value_enum, default_value_t, value_name = "FORMAT")]
    pub format: ExplainFormat,
    /// Carry it out, and tell how long each step took when the container has ended; what the container writes goes to standard
    /// error, its exit code is the command's
    #[arg(long, global = true)]
    pub run: bool,
    /// What is explained.
    #[command(subcommand)]
    pub command: ExplainCommand,
}

/// How an explanation is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ExplainFormat {
    /// For people.
    #[default]
    Text,
    /// For programs; src/engine/explain/README.md says what is in it.
    Json,
}

/// What is explained.
#[derive(Debug, Subcommand)]
pub enum ExplainCommand {
    /// What `run` would do, with its options
    Run(Box<RunArgs>),
    /// What `compose up` would do for a container of a service; with `--run`, one of its own is run in the foreground: without
    /// what the service depends on, its published ports and its name
    Compose(ExplainServiceArgs),
    /// What the OCI runtime would do with a bundle
    Oci(ExplainBundleArgs),
}

/// `explain compose`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker explain compose -f compose-examples/hello/compose.yaml web")]
pub struct ExplainServiceArgs {
    /// Which project.
    #[command(flatten)]
    pub project: ProjectArgs,
    /// The service
    pub service: String,
}

/// `explain oci`.
#[derive(Debug, Args)]
#[command(after_help = "Example: mydocker explain oci --bundle ./bundle")]
pub struct ExplainBundleArgs {
    /// The container's id [default: the name of the bundle's directory]
    pub id: Option<OciId>,
    /// What it is made of.
    #[command(flatten)]
    pub bundle: BundleArgs,
}
