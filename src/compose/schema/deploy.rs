//! Keys of `deploy`, `build` and `develop`.

use super::kind::*;
use super::{Field, Kind, Table, short};

const SWARM_ONLY: &[Field] = &[
    field("parallelism", &INT),
    field("delay", &DURATION),
    field("failure_action", &STR),
    field("monitor", &DURATION),
    field("max_failure_ratio", &NUMBER),
    field("order", &Kind::Word(&["start-first", "stop-first"])),
];
static UPDATE: Table = table("an update configuration", SWARM_ONLY);

static PREFERENCE: Table = table("a preference", &[field("spread", &STR)]);
static PLACEMENT: Table = table(
    "a placement",
    &[
        field("constraints", &STRINGS),
        field("preferences", &Kind::List(&Kind::Object(&PREFERENCE))),
        field("max_replicas_per_node", &INT),
    ],
);

static DISCRETE: Table = table("a resource", &[field("kind", &STR), field("value", &NUMBER)]);
static GENERIC: Table = table("a generic resource", &[field("discrete_resource_spec", &Kind::Object(&DISCRETE))]);
static COUNT_OR_ALL: Kind = Kind::Short("a number or `all`", short::device_count, &Kind::Any);
static DEVICE_REQUEST: Table = table(
    "a device request",
    &[
        field("capabilities", &STRINGS),
        field("count", &COUNT_OR_ALL),
        field("device_ids", &STRINGS),
        field("driver", &STR),
        field("options", &PAIRS),
    ],
);
/// A list of requests for devices.
pub(super) static DEVICE_REQUESTS: Kind = Kind::List(&Kind::Object(&DEVICE_REQUEST));

static LIMITS: Table = table("limits", &[field("cpus", &NUMBER), field("memory", &BYTES), field("pids", &INT)]);
static RESERVATIONS: Table = table(
    "reservations",
    &[
        field("cpus", &NUMBER).silent(),
        field("memory", &BYTES),
        field("generic_resources", &Kind::List(&Kind::Object(&GENERIC))).silent(),
        field("devices", &DEVICE_REQUESTS).refused("the service would run without the devices it asks for"),
    ],
);
static RESOURCES: Table =
    table("resources", &[field("limits", &Kind::Object(&LIMITS)), field("reservations", &Kind::Object(&RESERVATIONS))]);
static RESTART_POLICY: Table = table(
    "a restart policy",
    &[
        field("condition", &STR),
        field("delay", &DURATION).ignored(),
        field("max_attempts", &INT),
        field("window", &DURATION).ignored(),
    ],
);
static DEPLOY_TABLE: Table = table(
    "`deploy`",
    &[
        field("mode", &STR).silent(),
        field("endpoint_mode", &STR).silent(),
        field("replicas", &COUNT).print_zero(),
        field("labels", &LABELS).silent(),
        field("rollback_config", &Kind::Object(&UPDATE)).silent(),
        field("update_config", &Kind::Object(&UPDATE)).silent(),
        field("resources", &Kind::Object(&RESOURCES)),
        field("restart_policy", &Kind::Object(&RESTART_POLICY)),
        field("placement", &Kind::Object(&PLACEMENT)).silent(),
    ],
);
/// `deploy`.
pub(super) static DEPLOY: Kind = Kind::OrNull(&Kind::Object(&DEPLOY_TABLE));

static HOOK_TABLE: Table = table("a hook", HOOK_FIELDS).required(&["command"]);
const HOOK_FIELDS: &[Field] = &[
    field("command", &COMMAND).merged(Merge::Replace),
    field("user", &STR),
    field("privileged", &BOOL),
    field("working_dir", &STR),
    field("environment", &PAIRS),
];
static HOOK: Kind = Kind::Object(&HOOK_TABLE);
/// `post_start`, `pre_stop`.
pub(super) static HOOKS: Kind = Kind::List(&HOOK);

static WATCH: Table = table(
    "a watch",
    &[
        field("path", &STR),
        field("action", &Kind::Word(&["rebuild", "sync", "restart", "sync+restart", "sync+exec"])),
        field("target", &STR),
        field("exec", &HOOK),
        field("include", &STRING_OR_LIST),
        field("ignore", &STRING_OR_LIST),
        field("initial_sync", &BOOL),
    ],
)
.required(&["path", "action"]);
static DEVELOP_TABLE: Table = table("`develop`", &[field("watch", &Kind::List(&Kind::Object(&WATCH)))]);
/// `develop`.
pub(super) static DEVELOP: Kind = Kind::OrNull(&Kind::Object(&DEVELOP_TABLE));

static STR_OR_BOOL: Kind = Kind::Any;
static BUILD_TABLE: Table = table(
    "`build`",
    &[
        field("context", &STR),
        field("dockerfile", &STR),
        field("dockerfile_inline", &STR),
        field("entitlements", &STRINGS),
        field("args", &PAIRS),
        field("ssh", &Kind::Either(&STR, &PAIRS)),
        field("labels", &LABELS),
        field("cache_from", &STRINGS),
        field("cache_to", &STRINGS),
        field("no_cache", &BOOL),
        field("no_cache_filter", &STRING_OR_LIST),
        field("additional_contexts", &PAIRS),
        field("network", &STR),
        field("provenance", &STR_OR_BOOL),
        field("sbom", &STR_OR_BOOL),
        field("pull", &BOOL),
        field("target", &STR),
        field("shm_size", &BYTES),
        field("extra_hosts", &Kind::Hosts).merged(DISTINCT),
        field("isolation", &STR),
        field("privileged", &BOOL),
        field("secrets", &super::service::FILE_MOUNTS),
        field("tags", &STRINGS).merged(DISTINCT),
        field("ulimits", &super::service::ULIMITS),
        field("platforms", &STRINGS),
    ],
);
/// `build`.
pub(super) static BUILD: Kind = Kind::Short("a directory", short::build, &Kind::Object(&BUILD_TABLE));
