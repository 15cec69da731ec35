//! No key is accepted and forgotten: each is acted on, told of once, refused, or has nothing to do here, and the list of
//! all of them says which.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::super::{LoadRequest, load};
use super::{Field, Kind, ROOT, SERVICE, Support, Table};

/// Collects the tables that are looked into, by what they are: those below keys that are acted on.
fn visit(kind: &'static Kind, found: &mut BTreeMap<&'static str, &'static Table>) {
    match kind {
        Kind::Object(table) if found.insert(table.what, table).is_none() => {
            table.fields.iter().filter(|field| field.support == Support::Acts).for_each(|f| visit(f.kind, found));
        }
        Kind::List(kind)
        | Kind::OneOrMore(kind)
        | Kind::Dict(kind)
        | Kind::Named(_, kind)
        | Kind::Names(_, kind)
        | Kind::OrNull(kind)
        | Kind::Short(.., kind)
        | Kind::ShortList(.., kind) => visit(kind, found),
        Kind::Either(one, other) => {
            visit(one, found);
            visit(other, found);
        }
        _ => {}
    }
}

fn tables() -> BTreeMap<&'static str, &'static Table> {
    let mut found = BTreeMap::new();
    visit(&ROOT, &mut found);
    found
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_key_has_its_class() {
    let mut text = String::new();
    for (what, table) in tables() {
        let class = |wanted: fn(Support) -> bool| {
            table.fields.iter().filter(|field| wanted(field.support)).map(|field| field.name).collect::<Vec<_>>()
        };
        text += &format!("{what}\n");
        for (name, keys) in [
            ("acts", class(|support| support == Support::Acts)),
            ("warns", class(|support| support == Support::Ignored)),
            ("refuses", class(|support| matches!(support, Support::Refused { .. }))),
            ("nothing to do", class(|support| support == Support::Silent)),
        ] {
            if !keys.is_empty() {
                text += &format!("  {name}: {}\n", keys.join(" "));
            }
        }
    }
    insta::assert_snapshot!(text, @r#"
`bind`
  acts: propagation create_host_path recursive
  nothing to do: selinux
`blkio_config`
  acts: weight
  warns: weight_device device_read_bps device_read_iops device_write_bps device_write_iops
`deploy`
  acts: replicas resources restart_policy
  nothing to do: mode endpoint_mode labels rollback_config update_config placement
`extends`
  acts: service file
`external`
  acts: name
`image`
  acts: subpath
`ipam`
  acts: driver config
  warns: options
`logging`
  acts: driver options
`tmpfs`
  acts: size mode
`volume`
  acts: nocopy subpath
  warns: labels
`x-mydocker`
  acts: policy
a dependency
  acts: condition required restart
a device
  acts: source target permissions
a health check
  acts: test interval timeout retries start_period start_interval disable
a network
  acts: name driver driver_opts ipam external internal enable_ipv4 enable_ipv6 labels
  nothing to do: attachable
a port
  acts: host_ip target published protocol
  nothing to do: name mode app_protocol
a restart policy
  acts: condition max_attempts
  warns: delay window
a service
  acts: attach blkio_config cap_add cap_drop cgroup command container_name cpu_period cpu_quota cpu_shares cpus cpuset depends_on deploy device_cgroup_rules devices dns dns_opt dns_search domainname entrypoint env_file environment extends extra_hosts group_add healthcheck hostname image init label_file labels links logging mac_address mem_limit mem_reservation memswap_limit network_mode networks oom_score_adj pids_limit ports privileged profiles read_only restart scale security_opt shm_size stdin_open stop_grace_period stop_signal sysctls tmpfs tty ulimits user volumes working_dir
  warns: build cgroup_parent cpu_rt_period cpu_rt_runtime external_links mem_swappiness models oom_kill_disable storage_opt
  refuses: configs gpus ipc isolation pid post_start pre_stop provider runtime secrets use_api_socket userns_mode uts volumes_from
  nothing to do: annotations cpu_count cpu_percent credential_spec develop expose platform pull_policy pull_refresh_after
a service's network
  acts: aliases ipv4_address ipv6_address link_local_ips mac_address interface_name driver_opts priority gw_priority
a ulimit
  acts: soft hard
a volume
  acts: name driver driver_opts external labels
a volume mount
  acts: type source target read_only bind volume tmpfs image
  nothing to do: consistency
an address pool
  acts: subnet ip_range gateway aux_addresses
an env_file
  acts: path required format
an include
  acts: path env_file project_directory
limits
  acts: cpus memory pids
reservations
  acts: memory
  refuses: devices
  nothing to do: cpus generic_resources
resources
  acts: limits reservations
the file
  acts: name include services networks volumes x-mydocker
  nothing to do: version secrets configs models
"#);
}

/// Every key that is acted on is read by its name somewhere behind the schema.
#[test]
fn what_is_acted_on_is_read() {
    fn sources(dir: &Path, text: &mut String) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() && name != "schema" {
                sources(&path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") && name != "tests.rs" {
                text.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut text = String::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/compose"), &mut text);
    let fields = tables().into_values().flat_map(|table| table.fields);
    let forgotten: Vec<&str> = fields
        .filter(|field| field.support == Support::Acts)
        .map(|field| field.name)
        .filter(|name| !text.contains(&format!("\"{name}\"")))
        .collect();
    assert!(forgotten.is_empty(), "acted on, says the schema, and nobody reads them: {forgotten:?}");
}

/// Writes a value of a kind that asks for something.
fn sample(kind: &Kind) -> String {
    match kind {
        Kind::Bool => "true".into(),
        Kind::Int(min, _) => (*min).max(1).to_string(),
        Kind::Number | Kind::Mode(_) => "1".into(),
        Kind::Bytes(_) => "1m".into(),
        Kind::Duration => "1s".into(),
        Kind::Word(words) => words[0].into(),
        Kind::List(item) | Kind::OneOrMore(item) => format!("[{}]", sample(item)),
        Kind::Pairs | Kind::Labels => "{a: b}".into(),
        Kind::Dict(value) | Kind::Named(_, value) | Kind::Names(_, value) => format!("{{a: {}}}", sample(value)),
        Kind::Object(table) => {
            let wanted: Vec<&Field> = match table.required {
                [] => table.fields.iter().take(1).collect(),
                keys => table.fields.iter().filter(|field| keys.contains(&field.name)).collect(),
            };
            let fields: Vec<String> =
                wanted.iter().map(|field| format!("{}: {}", field.name, sample(field.kind))).collect();
            format!("{{{}}}", fields.join(", "))
        }
        Kind::OrNull(kind) | Kind::Short(.., kind) => sample(kind),
        Kind::ShortList(.., kind) => format!("[{}]", sample(kind)),
        Kind::Either(_, kind) => sample(kind),
        Kind::Str | Kind::Text | Kind::Command | Kind::Hosts | Kind::Any => "odd".into(),
    }
}

/// Loads a service with one more key.
fn loaded(field: &Field) -> (bool, String) {
    let key = format!("{}: {}", field.name, sample(field.kind));
    // What a key refers to is there.
    let text = format!(
        "services:\n  web:\n    image: root_fs\n    command: [\"true\"]\n    {key}\n\
         secrets: {{a: {{file: /a}}, odd: {{file: /a}}}}\nconfigs: {{a: {{file: /a}}, odd: {{file: /a}}}}\n\
         models: {{a: {{model: m}}}}\n"
    );
    let request = LoadRequest {
        files: vec![PathBuf::from("-")],
        project_name: Some("p".into()),
        working_dir: "/nonexistent".into(),
        stdin: Some(text.into_bytes()),
        ..LoadRequest::default()
    };
    match load(&request) {
        Ok(loaded) => (true, loaded.warnings.iter().map(|warning| warning.render()).collect()),
        Err(errors) => (false, errors.errors.iter().map(|error| error.render()).collect()),
    }
}

#[test]
fn a_service_s_keys_do_what_their_class_says() {
    for field in SERVICE.fields {
        let (accepted, said) = loaded(field);
        let left_out = format!("`{}` is not acted on yet and is left out", field.name);
        let refused = format!("`{}` is not supported yet, and without it", field.name);
        match field.support {
            Support::Ignored => {
                assert!(accepted && said.matches(&left_out).count() == 1, "{}: {accepted} {said}", field.name);
            }
            Support::Refused { .. } => assert!(!accepted && said.contains(&refused), "{}: {said}", field.name),
            Support::Silent | Support::Acts => {
                assert!(!said.contains(&left_out) && !said.contains(&refused), "{}: {said}", field.name);
            }
        }
    }
}

const DOCUMENT: &str = "docs/compose-support.md";

/// The part of the document that is made from the schema.
fn support_tables() -> String {
    let mut text = String::new();
    for (what, table) in tables() {
        text += &format!("\n### {}\n\n| key | mydocker | for example |\n|---|---|---|\n", what.trim_matches('`'));
        for field in table.fields {
            let class = match field.support {
                Support::Acts => "acts on it".to_owned(),
                Support::Silent => "has nothing to do".to_owned(),
                Support::Ignored => "leaves it out, with one warning".to_owned(),
                Support::Refused { because, .. } => format!("refuses it: without it {because}"),
            };
            let example = field.example.map(|text| format!("`{}`", text.replace('|', "\\|"))).unwrap_or_default();
            text += &format!("| `{}` | {class} | {example} |\n", field.name);
        }
    }
    text
}

/// What the document says of the keys is what the schema says. With MYDOCKER_UPDATE_DOCS set the document is written anew.
#[test]
fn the_document_says_what_the_schema_says() {
    const MARK: &str = "<!-- made by the test the_document_says_what_the_schema_says -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(DOCUMENT);
    let found = fs::read_to_string(&path).unwrap();
    let (before, tables) = found.split_once(MARK).expect("the document has the mark");
    let right = support_tables();
    if std::env::var_os("MYDOCKER_UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{before}{MARK}{right}")).unwrap();
    } else {
        assert!(tables == right, "{DOCUMENT} is out of date: run this test with MYDOCKER_UPDATE_DOCS=1");
    }
}
