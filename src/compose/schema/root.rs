//! Top-level keys: services, networks, volumes, secrets, configs, models, include.

use super::kind::*;
use super::service::SERVICE_KIND;
use super::{Field, Kind, Merge, Table, short};
use crate::compose::yaml::Node;

static EXTERNAL_NAME: Table = table("`external`", &[field("name", &STR)]);
static EXTERNAL: Kind = Kind::Short("a boolean", short::external, &Kind::Object(&EXTERNAL_NAME));

static IPAM_POOL: Table = table(
    "an address pool",
    &[
        field("subnet", &STR).example("subnet: 10.1.0.0/24"),
        field("ip_range", &STR),
        field("gateway", &STR),
        field("aux_addresses", &Kind::Dict(&STR)),
    ],
);

fn subnet(node: &Node) -> String {
    node.get("subnet").and_then(Node::as_str).unwrap_or_default().to_owned()
}

static IPAM: Table = table(
    "`ipam`",
    &[
        field("driver", &STR),
        field("config", &Kind::List(&Kind::Object(&IPAM_POOL))).merged(Merge::Unique(subnet)),
        field("options", &Kind::Dict(&STR)).ignored(),
    ],
);

static NETWORK_TABLE: Table = table(
    "a network",
    &[
        field("name", &STR),
        field("driver", &STR).example("driver: bridge"),
        field("driver_opts", &OPTIONS),
        field("ipam", &Kind::Object(&IPAM)),
        field("external", &EXTERNAL),
        field("internal", &BOOL),
        field("enable_ipv4", &BOOL).print_zero(),
        field("enable_ipv6", &BOOL).print_zero(),
        field("attachable", &BOOL).silent(),
        field("labels", &LABELS),
    ],
);
static VOLUME_TABLE: Table = table(
    "a volume",
    &[
        field("name", &STR),
        field("driver", &STR),
        field("driver_opts", &OPTIONS),
        field("external", &EXTERNAL),
        field("labels", &LABELS),
    ],
);

const FILE_FIELDS: &[Field] = &[
    field("name", &STR),
    field("environment", &STR),
    field("file", &STR),
    field("external", &EXTERNAL),
    field("labels", &LABELS),
    field("driver", &STR),
    field("driver_opts", &OPTIONS),
    field("template_driver", &STR),
];
static SECRET_TABLE: Table = table("a secret", FILE_FIELDS);
static CONFIG_TABLE: Table = table(
    "a config",
    &[
        field("name", &STR),
        field("content", &STR),
        field("environment", &STR),
        field("file", &STR),
        field("external", &EXTERNAL),
        field("labels", &LABELS),
        field("template_driver", &STR),
    ],
);
static MODEL_TABLE: Table = table(
    "a model",
    &[field("name", &STR), field("model", &STR), field("context_size", &INT), field("runtime_flags", &STRINGS)],
)
.required(&["model"]);

static INCLUDE_TABLE: Table = table(
    "an include",
    &[field("path", &STRING_OR_LIST), field("env_file", &STRING_OR_LIST), field("project_directory", &STR)],
)
.closed();

static OURS: Table =
    table("`x-mydocker`", &[field("policy", &Kind::Word(&["strict", "warn"])).example("x-mydocker: {policy: strict}")])
        .closed();

static ROOT_TABLE: Table = table(
    "the file",
    &[
        field("version", &STR).silent(),
        field("name", &STR),
        field("include", &Kind::ShortList("a path", short::include, &Kind::Object(&INCLUDE_TABLE))),
        field("services", &Kind::Named("service", &SERVICE_KIND)).example("services: {web: {image: root_fs}}"),
        field("networks", &Kind::Named("network", &Kind::OrNull(&Kind::Object(&NETWORK_TABLE)))),
        field("volumes", &Kind::Named("volume", &Kind::OrNull(&Kind::Object(&VOLUME_TABLE)))),
        field("secrets", &Kind::Named("secret", &Kind::Object(&SECRET_TABLE))).silent(),
        field("configs", &Kind::Named("config", &Kind::Object(&CONFIG_TABLE))).silent(),
        field("models", &Kind::Named("model", &Kind::Object(&MODEL_TABLE))).silent(),
        field("x-mydocker", &Kind::Object(&OURS)).example("x-mydocker: {policy: strict}"),
    ],
);
/// A whole file.
pub(in super::super) static ROOT: Kind = Kind::Object(&ROOT_TABLE);
