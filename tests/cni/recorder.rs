//! The rules of the protocol, seen from a plugin.

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use mydocker::network::{NetworkError, Networks};
use serde_json::json;

use crate::host::{Container, Host, list, on_a_host, port};

fn text(error: &NetworkError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

/// Three recorders; the second and third have capabilities.
async fn chain(host: &Host, version: &str) {
    host.plugins(&["one", "two", "three"]);
    let plugins = [
        json!({"type": "one", "own": {"a": [1]}}),
        json!({"type": "two", "capabilities": {"mac": true}}),
        json!({"type": "three", "capabilities": {"portMappings": true, "ips": true, "aliases": true, "bandwidth": true}}),
    ];
    host.networks.ensure(&host.config(&list(version, &plugins))).await.unwrap();
}

#[test]
fn add_and_del_run_the_chain_with_what_the_specification_says() {
    on_a_host(|host| async move {
        chain(&host, "1.1.0").await;
        let container = Container::new();
        let mut request = container.request();
        request.ports = vec![port(8080, 80)];
        request.mac = Some("02:00:00:00:00:01".parse().unwrap());
        request.ipv4 = Some("10.9.0.7".parse().unwrap());
        request.aliases = vec!["web".to_owned(), "web-1".to_owned(), "www".to_owned()];
        let attachment = host.networks.attach(request).await.unwrap();
        assert_eq!(attachment.address.unwrap().to_string(), "10.9.0.7/24");
        assert_eq!(
            (attachment.gateway, attachment.mac.unwrap().to_string()),
            (Some([10, 9, 0, 1].into()), "02:00:00:00:00:09".into())
        );
        assert_eq!(host.calls(), ["one ADD", "two ADD", "three ADD"]);
        let (one, two, three) = (host.input("one", "ADD"), host.input("two", "ADD"), host.input("three", "ADD"));
        assert_eq!(
            (&one["own"], &one["name"], &one["cniVersion"]),
            (&json!({"a": [1]}), &json!("net"), &json!("1.1.0"))
        );
        assert!(one.get("prevResult").is_none() && one.get("runtimeConfig").is_none());
        assert_eq!(two["runtimeConfig"], json!({"mac": "02:00:00:00:00:01"}));
        assert_eq!(
            three["runtimeConfig"]["portMappings"],
            json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}])
        );
        assert_eq!(
            (&three["runtimeConfig"]["ips"], &three["runtimeConfig"]["aliases"]),
            (&json!(["10.9.0.7"]), &json!(["web-1", "web", "www"]))
        );
        assert_eq!(
            (&two["prevResult"]["dns"]["domain"], &three["prevResult"]["dns"]["domain"]),
            (&json!("one.test"), &json!("two.test"))
        );
        assert!(three.get("capabilities").is_none());
        check_environment(&host, &container);
        assert!(host.networks.cni().check_attachment(container.id.as_str(), "eth0").await.unwrap());
        assert_eq!(host.input("one", "CHECK")["prevResult"]["dns"]["domain"], "three.test");
        host.forget_calls();
        host.networks.detach("net", &container.id).await.unwrap();
        assert_eq!(host.calls(), ["three DEL", "two DEL", "one DEL"]);
        assert_eq!(host.input("one", "DEL")["prevResult"]["dns"]["domain"], "three.test");
        assert_eq!(host.input("three", "DEL")["runtimeConfig"], three["runtimeConfig"]);
        assert_eq!(host.read("one.DEL.netns"), host.read("one.ADD.netns"));
        assert_eq!(host.cached(), 0);
        assert!(host.networks.remove("net").await.unwrap());
    });
}

/// Nothing of our own environment, and a path that leads to the container's namespace.
fn check_environment(host: &Host, container: &Container) {
    let environment = host.read("three.ADD.env");
    let names: Vec<&str> = environment.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    let known = [
        "CNI_ARGS",
        "CNI_COMMAND",
        "CNI_CONTAINERID",
        "CNI_IFNAME",
        "CNI_NETNS",
        "CNI_PATH",
        "OLDPWD",
        "PATH",
        "PWD",
        "SHLVL",
        "_",
    ];
    assert!(names.iter().all(|name| known.contains(name)), "{names:?}");
    assert!(environment.contains(&format!("CNI_NETNS=/proc/{}/fd/", std::process::id())), "{environment}");
    let inode = std::fs::File::from(container.netns.as_fd().try_clone_to_owned().unwrap()).metadata().unwrap().ino();
    assert_eq!(host.read("one.ADD.netns").trim(), inode.to_string());
}

#[test]
fn the_version_is_one_that_list_and_plugins_have_in_common() {
    on_a_host(|host| async move {
        for (written, spoken, chosen) in [
            (json!({"cniVersion": "1.1.0"}), r#"versions='"0.4.0","1.0.0"'"#, Some("1.0.0")),
            (json!({"cniVersion": "0.4.0", "cniVersions": ["0.3.1", "1.0.0", "9.9.9"]}), "", Some("1.0.0")),
            (json!({"cniVersion": "0.3.1"}), "", Some("0.3.1")),
            (
                json!({}),
                r#"[ $CNI_COMMAND != VERSION ] || { echo '{"code":4,"msg":"unknown CNI_COMMAND: VERSION"}'; exit 1; }"#,
                Some("0.1.0"),
            ),
            (json!({"cniVersion": "0.4.0"}), r#"versions='"0.3.1","1.0.0"'"#, None),
        ] {
            host.plugins(&["one"]);
            host.behave("one", spoken);
            let mut written = written;
            written["name"] = json!("net");
            written["type"] = json!("one");
            host.networks.ensure(&host.config(&written)).await.unwrap();
            let container = Container::new();
            match (container.attach(&host.networks).await, chosen) {
                (Ok(_), Some(chosen)) => {
                    assert_eq!(host.input("one", "ADD")["cniVersion"], chosen);
                    let checked = host.networks.cni().check_attachment(container.id.as_str(), "eth0").await;
                    assert_eq!(checked.is_ok(), chosen >= "0.4.0", "{checked:?}");
                    host.networks.detach("net", &container.id).await.unwrap();
                    assert_eq!(host.input("one", "DEL").get("prevResult").is_some(), chosen >= "0.4.0", "{chosen}");
                }
                (Err(error), None) => assert!(text(&error).contains("one 0.3.1, 1.0.0"), "{}", text(&error)),
                (outcome, _) => panic!("{written}: {outcome:?}"),
            }
            host.networks.remove("net").await.unwrap();
        }
        assert_eq!(host.cached(), 0);
    });
}

#[test]
fn what_nobody_can_do_is_refused_before_anything_runs() {
    on_a_host(|host| async move {
        host.plugins(&["one"]);
        host.networks.ensure(&host.config(&list("1.0.0", &[json!({"type": "one"})]))).await.unwrap();
        let container = Container::new();
        let mut request = container.request();
        request.ports = vec![port(8080, 80)];
        let error = text(&host.networks.attach(request).await.unwrap_err());
        assert!(error.contains("`ports` were asked for") && error.contains("portMappings"), "{error}");
        assert!(host.calls().is_empty() && host.cached() == 0);
        assert!(host.networks.attachments("net").unwrap().is_empty());
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn a_failed_add_is_taken_back_once_and_tells_all() {
    on_a_host(|host| async move {
        chain(&host, "1.0.0").await;
        let fails = r#"[ $CNI_COMMAND != ADD ] || { echo "the stderr of two" >&2; echo '{"code": 123, "msg": "no luck", "details": "at all"}'; exit 1; }"#;
        host.behave("two", fails);
        let container = Container::new();
        let error = text(&container.attach(&host.networks).await.unwrap_err());
        for word in ["two", "ADD", "net", "no luck", "123", "at all", "the stderr of two"] {
            assert!(error.contains(word), "{word}: {error}");
        }
        assert_eq!(host.calls(), ["one ADD", "two ADD", "three DEL", "two DEL", "one DEL"]);
        assert_eq!(host.input("one", "DEL")["prevResult"]["dns"]["domain"], "one.test", "as far as it came");
        assert_eq!(host.cached(), 0);
        assert!(host.networks.attachments("net").unwrap().is_empty());
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn a_failed_del_is_owed_and_paid_later_even_by_another_process() {
    on_a_host(|host| async move {
        chain(&host, "1.0.0").await;
        let container = Container::new();
        container.attach(&host.networks).await.unwrap();
        host.behave("two", r#"[ $CNI_COMMAND != DEL ] || { echo '{"code": 11, "msg": "later"}'; exit 1; }"#);
        host.forget_calls();
        let error = text(&host.networks.detach("net", &container.id).await.unwrap_err());
        assert!(error.contains("two") && error.contains("later (code 11)"), "{error}");
        assert_eq!(host.calls(), ["three DEL", "two DEL", "one DEL"], "the others are not kept from theirs");
        assert_eq!(host.cached(), 1);
        // The network goes, its file changes, the namespace goes: what is owed stays.
        host.networks.remove("net").await.unwrap();
        std::fs::write(host.dir.join("net.conflist"), "{").unwrap();
        drop(container);
        let other = Networks::open(&host.dir.join("run")).unwrap();
        assert!(other.take_back_lost(&|_| true).await.is_err());
        assert_eq!(host.cached(), 1);
        host.behave("two", "");
        host.forget_calls();
        other.take_back_lost(&|_| true).await.unwrap();
        assert_eq!(host.calls(), ["three DEL", "two DEL", "one DEL"]);
        assert_eq!(host.input("one", "DEL")["own"], json!({"a": [1]}), "with the configuration that was used");
        assert!(host.read("one.DEL.env").contains("CNI_NETNS=\n"), "a namespace that is gone is not named");
        assert_eq!(host.cached(), 0);
    });
}

#[test]
fn a_kill_in_the_middle_leaves_nothing_unknown() {
    on_a_host(|host| async move {
        chain(&host, "1.0.0").await;
        host.behave("two", "[ $CNI_COMMAND != ADD ] || exec sleep 100");
        let container = Container::new();
        let attaching = container.attach(&host.networks);
        // Whoever stops waiting kills the plugin: here as a kill of ours would, without the undoing.
        assert!(tokio::time::timeout(Duration::from_millis(400), attaching).await.is_err());
        assert_eq!(host.calls(), ["one ADD", "two ADD"]);
        assert_eq!(host.cached(), 1);
        host.forget_calls();
        let next = Networks::open(&host.dir.join("run")).unwrap();
        next.reconcile(&|_| false).await.unwrap();
        assert_eq!(host.calls(), ["three DEL", "two DEL", "one DEL"]);
        assert_eq!((host.cached(), next.attachments("net").unwrap().len()), (0, 0));
        next.remove("net").await.unwrap();
    });
}

#[test]
fn broken_plugins_are_named_and_nothing_of_them_stays() {
    on_a_host(|host| async move {
        let add = |script: &str| format!("[ $CNI_COMMAND != ADD ] || {{ {script}; }}");
        let cases = [
            (add("kill -SEGV $$"), "signal"),
            (add("echo 'panic: 7' >&2; exit 2"), "panic: 7"),
            (add("echo rubbish"), "no JSON"),
            (add("exit 0"), "no JSON"),
            (add("head -c 10485760 /dev/zero"), "1 MiB"),
            (add("head -c 10485760 /dev/zero | tr '\\000' x >&2; exit 3"), "exit status: 3"),
            (add("echo '{\"ips\": [{\"address\": \"nowhere\"}]}'; exit 0"), "no result"),
            (add("printf '\\033[2Jx' >&2; exit 4"), "\\u{1b}[2Jx"),
            (add("sleep 77 & sleep 77"), "had not ended after 0.3 s"),
            (add("sleep 77 & exit 0"), "had not ended after 0.3 s"),
        ];
        for (script, word) in cases {
            host.plugins(&["one"]);
            host.behave("one", &script);
            let mut config = host.config(&list("1.0.0", &[json!({"type": "one"})]));
            let limit = if word.contains("0.3") { "0.3" } else { "10" };
            config.options.insert("timeout".into(), limit.into());
            host.networks.ensure(&config).await.unwrap();
            let container = Container::new();
            let begun = Instant::now();
            let error = text(&container.attach(&host.networks).await.unwrap_err());
            assert!(error.contains(word) && error.contains("one") && error.len() < 6000, "{script}: {error}");
            assert!(begun.elapsed() < Duration::from_secs(9), "{script}");
            assert_eq!((host.calls().last().unwrap().as_str(), host.cached()), ("one DEL", 0));
            host.networks.remove("net").await.unwrap();
        }
        let left = std::process::Command::new("pgrep").args(["-f", "^sleep 77$"]).output().unwrap();
        assert!(left.stdout.is_empty(), "a plugin's whole group is killed");
        let missing = host.config(&list("1.0.0", &[json!({"type": "nosuch"})]));
        let error = text(&host.networks.ensure(&missing).await.unwrap_err());
        assert!(error.contains("nosuch") && error.contains(&host.dir.join("bin").display().to_string()), "{error}");
        assert!(host.networks.list().unwrap().is_empty());
    });
}

#[test]
fn gc_and_status_reach_those_that_know_them() {
    on_a_host(|host| async move {
        chain(&host, "1.1.0").await;
        host.behave("two", r#"versions='"1.0.0"'"#);
        let container = Container::new();
        container.attach(&host.networks).await.unwrap();
        host.forget_calls();
        let network = host.networks.find("net").unwrap();
        let list = network.cni.unwrap();
        let runtime = mydocker::network::cni::Runtime::new(vec![host.dir.join("bin")], Duration::from_secs(5));
        assert_eq!(host.networks.cni().gc(&runtime, &list).await.unwrap(), ["one", "three"]);
        let valid = json!([{"containerID": container.id.as_str(), "ifname": "eth0"}]);
        assert_eq!(host.input("three", "GC")["cni.dev/valid-attachments"], valid);
        assert_eq!(runtime.status(&list).await.unwrap(), ["one", "three"]);
        host.behave("one", r#"[ $CNI_COMMAND != STATUS ] || { echo '{"code": 50, "msg": "full"}'; exit 1; }"#);
        assert_eq!(runtime.status(&list).await.unwrap_err().code(), Some(50));
        host.networks.detach("net", &container.id).await.unwrap();
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn a_list_that_changed_is_not_used_beside_the_old_one() {
    on_a_host(|host| async move {
        chain(&host, "1.0.0").await;
        let container = Container::new();
        container.attach(&host.networks).await.unwrap();
        let other = host.config(&list("1.0.0", &[json!({"type": "one"})]));
        assert!(matches!(host.networks.ensure(&other).await, Err(NetworkError::Different { .. })));
        host.forget_calls();
        host.networks.detach("net", &container.id).await.unwrap();
        assert_eq!(host.calls().len(), 3, "DEL as it was made");
        host.networks.ensure(&other).await.unwrap();
        container.attach(&host.networks).await.unwrap();
        assert_eq!(host.calls().len(), 4);
        host.networks.detach("net", &container.id).await.unwrap();
        host.networks.remove("net").await.unwrap();
    });
}

#[test]
fn switches_of_a_list_are_obeyed() {
    on_a_host(|host| async move {
        host.plugins(&["one", "beside"]);
        // What lies in a directory of the network's name belongs to the list, unless that says otherwise (1.1.0).
        std::fs::create_dir(host.dir.join("net")).unwrap();
        std::fs::write(host.dir.join("net/10-beside.conf"), r#"{"type": "beside"}"#).unwrap();
        std::fs::write(host.dir.join("net/20-other.txt"), "no configuration").unwrap();
        for (switch, wanted) in [
            (
                json!({}),
                vec![
                    "one ADD",
                    "beside ADD",
                    "one CHECK",
                    "beside CHECK",
                    "one GC",
                    "beside GC",
                    "beside DEL",
                    "one DEL",
                ],
            ),
            (json!({"loadOnlyInlinedPlugins": true}), vec!["one ADD", "one CHECK", "one GC", "one DEL"]),
            (json!({"loadOnlyInlinedPlugins": true, "disableCheck": true}), vec!["one ADD", "one GC", "one DEL"]),
            (json!({"loadOnlyInlinedPlugins": true, "disableGC": true}), vec!["one ADD", "one CHECK", "one DEL"]),
        ] {
            host.forget_calls();
            let mut written = list("1.1.0", &[json!({"type": "one"})]);
            written.as_object_mut().unwrap().extend(switch.as_object().unwrap().clone());
            host.networks.ensure(&host.config(&written)).await.unwrap();
            let container = Container::new();
            container.attach(&host.networks).await.unwrap();
            let cni = host.networks.cni();
            let asked = cni.check_attachment(container.id.as_str(), "eth0").await.unwrap();
            assert_eq!(asked, switch.get("disableCheck").is_none());
            let list = host.networks.find("net").unwrap().cni.unwrap();
            let runtime = mydocker::network::cni::Runtime::new(vec![host.dir.join("bin")], Duration::from_secs(5));
            cni.gc(&runtime, &list).await.unwrap();
            host.networks.detach("net", &container.id).await.unwrap();
            host.networks.remove("net").await.unwrap();
            assert_eq!(host.calls(), wanted, "{switch}");
        }
    });
}

#[test]
fn what_would_harm_the_host_or_another_is_refused() {
    on_a_host(|host| async move {
        chain(&host, "1.0.0").await;
        let own = Container {
            id: mydocker::spec::ContainerId::generate(),
            netns: mydocker::namespaces::network::open_current().unwrap(),
        };
        let error = text(&own.attach(&host.networks).await.unwrap_err());
        assert!(error.contains("host's own network namespace"), "{error}");
        assert!(host.calls().is_empty() && host.cached() == 0);
        // DEL of an attachment that was owed, and has been made anew since by another process, is not run on that.
        let container = Container::new();
        container.attach(&host.networks).await.unwrap();
        host.behave("two", r#"[ $CNI_COMMAND != DEL ] || { echo '{"code": 11, "msg": "later"}'; exit 1; }"#);
        host.networks.detach("net", &container.id).await.unwrap_err();
        // It is slow now, so that another may come while it works.
        host.behave(
            "two",
            r#"[ $CNI_COMMAND != DEL ] || { touch "$here/slow"; while [ -e "$here/slow" ]; do sleep 0.01; done; }"#,
        );
        let other = Networks::open(&host.dir.join("run")).unwrap();
        host.forget_calls();
        let (paid, attached, ()) =
            tokio::join!(other.take_back_lost(&|_| true), container.attach(&host.networks), async {
                let slow = host.dir.join("bin/slow");
                for _ in 0..2 {
                    while std::fs::remove_file(&slow).is_err() && host.calls().len() < 6 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            });
        paid.unwrap();
        attached.unwrap();
        let calls = host.calls();
        assert_eq!(calls[calls.len() - 3..], ["one ADD", "two ADD", "three ADD"], "{calls:?}");
        assert_eq!(calls.iter().filter(|call| *call == "one DEL").count(), 1, "{calls:?}");
        host.behave("two", "");
        host.networks.detach("net", &container.id).await.unwrap();
        host.networks.remove("net").await.unwrap();
        assert_eq!(host.cached(), 0);
    });
}
