use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

fn list(value: &Value) -> Result<NetworkList, ListError> {
    NetworkList::parse(value.to_string().as_bytes())
}

/// The example of SPEC.md, shortened.
fn dbnet() -> Value {
    json!({
        "cniVersion": "1.1.0", "cniVersions": ["0.3.1", "0.4.0", "1.0.0", "1.1.0", "9.0.0"], "name": "dbnet",
        "plugins": [
            {"type": "bridge", "bridge": "cni0", "keyA": ["x", 1], "ipam": {"type": "host-local", "subnet": "10.1.0.0/16"}},
            {"type": "tuning", "capabilities": {"mac": true, "ips": false}, "cni.dev/x": 1, "prevResult": {}, "runtimeConfig": {}},
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    })
}

#[test]
fn lists_and_single_configurations_are_read() {
    let read = list(&dbnet()).unwrap();
    assert_eq!((read.name.as_str(), read.plugins.len()), ("dbnet", 3));
    assert_eq!(read.versions, [SpecVersion::V0_3_1, SpecVersion::V0_4_0, SpecVersion::V1_0_0, SpecVersion::V1_1_0]);
    assert_eq!(read.capabilities().into_iter().collect::<Vec<_>>(), ["mac", "portMappings"]);
    let single = list(&json!({"name": "n", "type": "ptp"})).unwrap();
    assert_eq!(
        (single.plugins.len(), single.versions, single.loads_from_directory),
        (1, vec![SpecVersion::V0_1_0], false)
    );
    let whole = serde_json::to_string(&read).unwrap();
    assert_eq!(serde_json::from_str::<NetworkList>(&whole).unwrap(), read);
}

#[test]
fn what_cannot_be_run_is_refused_with_the_value() {
    let mut cases = vec![
        (json!([]), "not JSON"),
        (json!({"plugins": []}), "`name`"),
        (json!({"name": "n", "plugins": {}}), "`plugins`"),
        (json!({"name": "n", "plugins": [{}]}), "`type`"),
        (json!({"name": "n", "plugins": [1]}), "no object"),
        (json!({"name": "n", "type": "x", "cniVersion": "2.0.0"}), "2.0.0"),
        (json!({"name": "n", "type": "x", "cniVersion": 1}), "cniVersion"),
        (json!({"name": "n", "type": "x", "disableCheck": 7}), "disableCheck"),
        (json!({"name": "n", "loadOnlyInlinedPlugins": true}), "loadOnlyInlinedPlugins"),
        (json!({"name": "n", "plugins": vec![json!({"type": "x"}); 65]}), "65"),
        (json!({"name": "n", "type": "x", "ipam": {"type": "../y"}}), "ipam"),
    ];
    for name in ["", "-n", "a/b", "..", "a b", "n\n", "n;rm", "ä"] {
        cases.push((json!({"name": name, "type": "x"}), "name"));
    }
    for kind in ["", ".", "..", "a/b", "/bin/sh", "a\\b", "x..y", "a b", "a\0"] {
        cases.push((json!({"name": "n", "type": kind}), "the type"));
    }
    for (value, word) in cases {
        let error = list(&value).unwrap_err().to_string();
        assert!(error.contains(word), "{value}: {error}");
    }
}

#[test]
fn a_request_has_the_plugins_own_keys_and_the_protocols() {
    let read = list(&dbnet()).unwrap();
    let mut runtime = RuntimeConfig { mac: Some("02:00:00:00:00:01".into()), ..RuntimeConfig::default() };
    runtime.aliases = Some(vec!["db".into()]);
    let previous = AttachResult::default();
    let plugin = &read.plugins[1];
    let additions = Additions {
        runtime: runtime.for_plugin(&plugin.capabilities()),
        previous: Some(&previous),
        ..Additions::default()
    };
    let request = plugin.request(SpecVersion::V1_0_0, "dbnet", additions);
    let expected = json!({
        "type": "tuning", "name": "dbnet", "cniVersion": "1.0.0", "runtimeConfig": {"mac": "02:00:00:00:00:01"},
        "prevResult": {"cniVersion": "1.0.0", "dns": {}}
    });
    assert_eq!(request, expected);
    let first = read.plugins[0].request(SpecVersion::V0_4_0, "dbnet", Additions::default());
    assert_eq!((&first["keyA"], &first["ipam"]["subnet"]), (&json!(["x", 1]), &json!("10.1.0.0/16")));
    assert!(first.get("prevResult").is_none() && first.get("runtimeConfig").is_none());
}

fn full() -> AttachResult {
    let value = json!({
        "cniVersion": "1.1.0",
        "interfaces": [
            {"name": "cni0", "mac": "00:11:22:33:44:55"},
            {"name": "eth0", "mac": "99:88:77:66:55:44", "mtu": 1400, "sandbox": "/proc/7/fd/9", "pciID": "0000:00:01.0"}
        ],
        "ips": [
            {"address": "10.1.0.5/16", "gateway": "10.1.0.1", "interface": 1},
            {"address": "2001:db8::5/64", "gateway": "2001:db8::1", "interface": 1}
        ],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "priority": 5, "table": 3}, {"dst": "::/0"}],
        "dns": {"nameservers": ["10.1.0.1"], "search": ["a.test"]}
    });
    AttachResult::from_json(value, SpecVersion::V1_1_0).unwrap()
}

#[test]
fn results_of_every_version_come_back() {
    let result = full();
    assert_eq!(result.addresses_of("eth0").count(), 2);
    assert_eq!(result.interface("eth0").unwrap().mtu, Some(1400));
    assert!(result.interface("cni0").is_none());
    for version in SpecVersion::ALL {
        let written = result.to_json(version);
        assert_eq!(written["cniVersion"], json!(version));
        let again = AttachResult::from_json(written.clone(), version).unwrap();
        let addresses =
            |result: &AttachResult| result.ips.iter().map(|ip| (ip.address, ip.gateway)).collect::<Vec<_>>();
        assert_eq!(addresses(&again), addresses(&result), "{version}");
        assert_eq!(again.routes.len(), 2, "{version}");
        assert_eq!(again.dns, result.dns);
        assert_eq!(written.get("ip4").is_some(), version < SpecVersion::V0_3_0, "{version}");
        let has_family = written["ips"][1]["version"] == "6";
        assert_eq!(has_family, (SpecVersion::V0_3_0..=SpecVersion::V0_4_0).contains(&version), "{version}");
        let has_mtu = written["interfaces"][1].get("mtu").is_some();
        assert_eq!(has_mtu, version == SpecVersion::V1_1_0, "{version}");
        assert_eq!(again == result, version == SpecVersion::V1_1_0, "{version}");
        assert_eq!(again.to_json(version), written, "{version}");
    }
}

#[test]
fn results_that_are_none_are_refused() {
    let cases = [
        (json!({"ips": [{"address": "10.1.0.5"}], "interfaces": 7}), "not a result"),
        (json!({"ips": [{"address": "10.1.0.500/8"}]}), "not a result"),
        (json!({"ips": [{"address": "10.1.0.5/8", "interface": 4}], "interfaces": [{"name": "a"}]}), "interface 4"),
        (json!({"cniVersion": "7.0.0"}), "7.0.0"),
        (json!("text"), "not a result"),
    ];
    for (value, word) in cases {
        let error = AttachResult::from_json(value.clone(), SpecVersion::V1_0_0).unwrap_err().to_string();
        assert!(error.contains(word), "{value}: {error}");
    }
    let lenient = json!({"ips": null, "routes": null, "dns": null, "future": {"x": 1}});
    assert_eq!(AttachResult::from_json(lenient, SpecVersion::V1_0_0).unwrap(), AttachResult::default());
}

#[test]
fn capabilities_have_their_own_words() {
    let value = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1"}],
        "ips": ["10.1.0.9/16"], "mac": "02:00:00:00:00:01", "aliases": ["db"], "ipRanges": [[{"subnet": "10.0.0.0/8"}]],
        "dns": {"servers": ["8.8.8.8"], "searches": ["x.test"]},
        "bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 0, "egressBurst": 0}
    });
    let runtime: RuntimeConfig = serde_json::from_value(value.clone()).unwrap();
    assert_eq!(Value::Object(runtime.members()), value);
    assert_eq!(runtime.other.keys().collect::<Vec<_>>(), ["ipRanges"]);
    assert!(RuntimeConfig::default().members().is_empty());
}

#[test]
fn a_plugin_of_ours_reads_its_environment_and_its_input() {
    let good: BTreeMap<&str, &str> = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_NETNS", "/proc/7/fd/9"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_PATH", "/opt/cni/bin"),
    ]
    .into();
    let read = |changes: &[(&'static str, &'static str)]| {
        let mut variables = good.clone();
        variables.extend(changes.iter().copied());
        Parameters::from_environment(|name| variables.get(name).map(ToString::to_string))
    };
    let parameters = read(&[]).unwrap();
    assert_eq!(parameters.operation, Operation::Add);
    let again: BTreeMap<_, _> = parameters.environment().into();
    assert_eq!(Parameters::from_environment(|name| again.get(name).map(ToString::to_string)).unwrap(), parameters);
    assert!(read(&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")]).is_ok());
    assert!(read(&[("CNI_COMMAND", "VERSION"), ("CNI_NETNS", ""), ("CNI_CONTAINERID", "")]).is_ok());
    for (name, value) in [
        ("CNI_COMMAND", "FLY"),
        ("CNI_CONTAINERID", "../x"),
        ("CNI_CONTAINERID", ""),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "sixteen-bytes-xx"),
    ] {
        let error = read(&[(name, value)]).unwrap_err();
        assert!(error.code == code::BAD_ENVIRONMENT && error.msg.contains(name), "{error}");
    }
    let input = json!({"cniVersion": "1.0.0", "name": "n", "type": "polycube", "own": 1, "prevResult": full().to_json(SpecVersion::V1_0_0)});
    let request = PluginRequest::parse(input.to_string().as_bytes(), &SpecVersion::ALL).unwrap();
    assert_eq!((request.version, request.config["own"].as_u64()), (SpecVersion::V1_0_0, Some(1)));
    assert_eq!(request.previous.unwrap().ips, full().ips);
    let refused = |input: Value, supported: &[SpecVersion]| {
        PluginRequest::parse(input.to_string().as_bytes(), supported).unwrap_err().code
    };
    assert_eq!(refused(input.clone(), &[SpecVersion::V0_4_0]), code::INCOMPATIBLE_VERSION);
    assert_eq!(refused(json!([]), &SpecVersion::ALL), code::DECODE_FAILURE);
    assert_eq!(refused(json!({"name": "../n", "type": "x"}), &SpecVersion::ALL), code::BAD_CONFIGURATION);
    assert_eq!(refused(json!({"name": "n", "type": "x", "prevResult": 3}), &SpecVersion::ALL), code::BAD_CONFIGURATION);
}

#[test]
fn an_attachment_is_checked_before_any_plugin_hears_of_it() {
    let runtime = Runtime::default();
    let read = list(&dbnet()).unwrap();
    let good =
        Target { container_id: "c-1".into(), ifname: "eth0".into(), netns: "/run/netns/x".into(), ..Target::default() };
    for args in ["", "A=1", "IgnoreUnknown=1;K8S_POD_NAME=x=y"] {
        runtime.check_target(&read, &Target { args: args.into(), ..good.clone() }).unwrap();
    }
    for args in ["A", "A=1;", ";A=1", "=1", "a b=1", "A=\n"] {
        let error = runtime.check_target(&read, &Target { args: args.into(), ..good.clone() }).unwrap_err();
        assert!(error.to_string().contains("CNI_ARGS"), "{args:?}: {error}");
    }
    for ifname in ["", ".", "..", "a/b", "a:b", "a b", "a\tb", "sixteen-bytes-xx"] {
        assert!(runtime.check_target(&read, &Target { ifname: ifname.into(), ..good.clone() }).is_err(), "{ifname:?}");
    }
    for id in ["", "-c", "../c", "c/d", "c d", "ä"] {
        assert!(runtime.check_target(&read, &Target { container_id: id.into(), ..good.clone() }).is_err(), "{id:?}");
    }
}

#[test]
fn gc_names_what_is_valid_by_both_names() {
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    let additions = Additions { valid_attachments: Some(valid.clone()), ..Additions::default() };
    let request = list(&dbnet()).unwrap().plugins[0].request(SpecVersion::V1_1_0, "dbnet", additions);
    assert_eq!((&request["cni.dev/valid-attachments"], &request["cni.dev/attachments"]), (&valid, &valid));
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        let input = json!({"cniVersion": "1.1.0", "name": "n", "type": "x", key: valid}).to_string();
        let read = PluginRequest::parse(input.as_bytes(), &SpecVersion::ALL).unwrap();
        assert_eq!(read.valid_attachments[0].container_id, "c1");
    }
}

#[test]
fn errors_and_versions_are_read_whatever_a_plugin_leaves_out() {
    let error: ErrorObject = serde_json::from_str(r#"{"code": 999, "msg": "no", "details": "why"}"#).unwrap();
    assert_eq!(error.to_string(), "no (code 999); why");
    let bare: ErrorObject = serde_json::from_str(r#"{"code": 1}"#).unwrap();
    assert_eq!(bare.to_string(), "no message (code 1)");
    let answer: VersionObject =
        serde_json::from_str(r#"{"cniVersion":"1.0.0","supportedVersions":["1.0.0","0.4.0","5.0.0"]}"#).unwrap();
    assert_eq!(answer.known(), [SpecVersion::V0_4_0, SpecVersion::V1_0_0]);
    let old: VersionObject = serde_json::from_str(r#"{"cniVersion":"0.2.0"}"#).unwrap();
    assert_eq!(old.known(), [SpecVersion::V0_1_0, SpecVersion::V0_2_0]);
    let none: VersionObject = serde_json::from_str(r#"{"cniVersion":"1.0.0"}"#).unwrap();
    assert!(none.known().is_empty());
}
