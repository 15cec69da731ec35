//! Whole loads: what comes out of a file, and what is said about a wrong one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::graph::DependencyGraph;
use super::model::{ImageRef, VolumeMountKind};
use super::{LoadErrors, LoadRequest, Loaded, config, load};

/// Loads one text as `compose.yaml` of the project `p`.
fn load_text(text: &str) -> Result<Loaded, LoadErrors> {
    load(&request(text))
}

fn request(text: &str) -> LoadRequest {
    LoadRequest {
        files: vec![PathBuf::from("-")],
        project_name: Some("p".into()),
        working_dir: "/nonexistent".into(),
        environment: [("HOME".to_owned(), "/home/me".to_owned()), ("SET".to_owned(), "7".to_owned())].into(),
        stdin: Some(text.as_bytes().to_vec()),
        ..LoadRequest::default()
    }
}

/// The first line of each message, without the file's name.
fn messages(text: &str) -> Vec<String> {
    let errors = match load_text(text) {
        Ok(_) => return vec!["accepted".into()],
        Err(errors) => errors.errors,
    };
    let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
    errors.iter().map(|error| first(error.render()).trim_start_matches("<stdin>:").to_owned()).collect()
}

/// Puts a line into a service that is sound without it.
fn in_service(line: &str) -> String {
    format!("services:\n  web:\n    image: root_fs\n    command: [\"true\"]\n    {line}\n")
}

/// Lines of a service that are wrong, or right where one might think otherwise.
const SERVICE_LINES: &[&str] = &[
    "ports: 80:80",
    "ports: [\"0\"]",
    "ports: [\"65536\"]",
    "ports: [\"-1\"]",
    "ports: [\"[::1]:80:80\"]",
    "ports: [\"80/sctp\"]",
    "ports: [\"80:80\", \"80:80\"]",
    "ports: [80:80]",
    "ports: [{target: 70000}]",
    "ports: [{target: 80, host_ip: x}]",
    "ports: [{published: 80}]",
    "ports: [true]",
    "ports: [~]",
    "deploy: {replicas: two}",
    "scale: -1",
    "scale: 100000",
    "{scale: 2, container_name: abc}",
    "scale: 2\n    container_name: abc",
    "container_name: ../../etc",
    "container_name: a b",
    "hostname: \"a\\nb\"",
    "extra_hosts: [\"a=1.2.3.4\\n5.6.7.8 b\"]",
    "extra_hosts: [\"a=host-gateway\"]",
    "extra_hosts: [\"a=999.1.1.1\"]",
    "extra_hosts: [\"a\"]",
    "volumes: [\"/a:/\"]",
    "volumes: [\"/a:/proc\"]",
    "volumes: [\"/a:b\"]",
    "volumes: [\"/a:/b/../c\"]",
    "volumes: [\"/a:/b\", \"/c:/b\"]",
    "volumes: [\"/a:/b:xx\"]",
    "volumes: [\"/a:/b:ro:x\"]",
    "volumes: [{type: bond, target: /x}]",
    "volumes: [\"\"]",
    "tmpfs: \"/a:size=x\"",
    "tmpfs: [/a, /a]",
    "mem_limit: 1",
    "mem_limit: -1",
    "mem_limit: 1e30",
    "mem_limit: 6mm",
    "mem_limit: 64m",
    "cpus: 0",
    "cpus: -1",
    "cpus: 0.5",
    "cpus: many",
    "pids_limit: 0",
    "cpuset: 0-9999",
    "cpuset: 1",
    "sysctls: {kernel.panic: 1}",
    "sysctls: {net.core.somaxconn: 1}",
    "sysctls: {net.x: \"1\\n2\"}",
    "sysctls: {net.core.somaxconn: 1}\n    network_mode: host",
    "cap_add: [SYS_MODULEX]",
    "cap_add: [ALL]",
    "cap_add: [net_admin, CAP_SYS_TIME]",
    "cap_drop: ALL",
    "user: nosuch",
    "user: \"0:x\"",
    "user: \"-1\"",
    "user: \"4294967295\"",
    "user: \"1:2:3\"",
    "user: 1000",
    "user: \"99999999999\"",
    "working_dir: a",
    "working_dir: /a",
    "command: []",
    "command: {a: b}",
    "command: 'a \"b'",
    "entrypoint: []",
    "healthcheck: {test: [x], interval: 0s}",
    "healthcheck: {test: x, interval: -1s}",
    "healthcheck: {test: x, interval: 1x}",
    "healthcheck: {test: []}",
    "healthcheck: {test: [FOO]}",
    "healthcheck: {test: x, retries: -1}",
    "healthcheck: {test: x, timeout: 10000h}",
    "healthcheck: {disable: true}",
    "healthcheck: {interval: 1s}",
    "healthcheck: {test: [CMD]}",
    "healthcheck: {tset: x}",
    "stop_signal: SIGFOO",
    "stop_signal: 0",
    "stop_signal: 65",
    "stop_signal: kill",
    "stop_signal: RTMIN+3",
    "stop_grace_period: -1s",
    "stop_grace_period: 5",
    "restart: on-failure:-1",
    "restart: on-failure:x",
    "restart: sometimes",
    "restart: no",
    "restart: false",
    "network_mode: bridge",
    "network_mode: hots",
    "network_mode: service:x",
    "network_mode: none",
    "privileged: true",
    "privileged: false",
    "devices: [/dev/null]",
    "devices: [sda]",
    "device_cgroup_rules: [\"c 1:3 r\"]",
    "device_cgroup_rules: [\"c 1:3\"]",
    "pid: host",
    "pid: \"service:x\"",
    "ipc: host",
    "secrets: [x]",
    "security_opt: [no-new-privileges]",
    "security_opt: [\"seccomp=unconfined\"]",
    "security_opt: [foo]",
    "environment: [A=1, 3]",
    "environment: {A: [1]}",
    "environment: A=1",
    "env_file: nope.env",
    "labels: [a, b=c]",
    "ulimits: {nofile: 5, nofyle: 6}",
    "ulimits: {nofile: {soft: 9, hard: 5}}",
    "oom_score_adj: 2000",
    "logging: {driver: none}",
    "dns: 1.1.1.1",
    "build: .",
    "init: yes",
    "tty: maybe",
    "hostname: ${NOPE:?set it}",
    "hostname: \"a${SET}b\"",
    "hostname: ${SET",
    "hostname: $",
    "hostname: a$$b",
    "hostname: ${${X}}",
    "depends_on: [wbe]",
    "depends_on: {web: {condition: healthy}}",
    "depends_on: {web: {}}",
    "networks: {a: {ipv4_address: x}}",
    "image: alpine",
    "expose: [80, 90/udp, x]",
    "mac_address: x",
    "links: [db]",
    "group_add: [1, -1]",
    "shm_size: 64m",
    "memswap_limit: 1g",
    "read_only: 1",
];

/// Whole files.
const FILES: &[&str] = &[
    "",
    "# c\n",
    "services:\n",
    "services: {}\n",
    "a: [\n",
    "[]",
    "x",
    "services: {web: {image: root_fs, command: a}, web: {}}",
    "services: {\"\": {image: root_fs, command: a}}",
    "services: {-rf: {image: root_fs, command: a}}",
    "services: {é: {image: root_fs, command: a}}",
    "services: {\"a\\eb\": {image: root_fs, command: a}}",
    "services: {a: {image: root_fs, command: a, depends_on: [a]}}",
    "services: {a: {image: root_fs, command: a, container_name: xx}, b: {image: root_fs, command: a, container_name: xx}}",
    "services: {a: {image: root_fs, command: a, networks: {n: {ipv4_address: 10.1.0.1}}}, b: {image: root_fs, command: a, networks: {n: {ipv4_address: 10.2.0.1}}}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/24}]}}}",
    "services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/33}, {subnet: 10.1.0.1/24}, {subnet: 10.1.0.0/32}, {subnet: 10.1.0.0/24, gateway: 10.1.1.1, ip_range: 10.2.0.0/25}, {subnet: 10.1.0.0/16}, {subnet: 'fd00::/64'}]}}}",
    "services: {a: {image: root_fs, command: a, extends: a}}",
    "services: {a: {image: root_fs, command: a, extends: b}, b: {extends: {service: a}}}",
    "services: {a: {image: root_fs, command: a, extends: {service: x, file: 'https://x/y.yaml'}}}",
    "include: [nope.yaml]\nservices: {a: {image: root_fs, command: a}}",
    "services: {a: {image: root_fs, command: a, volumes: ['v:/v']}}\nvolumes: {v: {name: ../x}}",
    "services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {driver: brigde, name: 'a;b'}}",
    "services: {a: {image: root_fs, command: a, networks: [n, m]}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/24}]}}, m: {ipam: {config: [{subnet: 10.1.0.128/25}]}}}",
    "services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {driver_opts: {com.docker.network.bridge.name: a;b, com.docker.network.driver.mtu: 9, com.docker.network.bridge.enable_icc: maybe}}}",
    "services: {a: {image: root_fs, command: a}}\nserivces: {}",
    "services: {a: {image: root_fs, command: a}}\nx-foo: {}\nversion: '3'",
    "services: {a: {profiles: [x], image: root_fs, command: a}}",
    "services: {a: {image: root_fs, command: a, volumes: ['~/x:/x', '../y:/y', './z:/z']}}",
];

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_fault_has_its_message() {
    let lines =
        SERVICE_LINES.iter().map(|line| format!("{line}\n    {}\n", messages(&in_service(line)).join("\n    ")));
    let files = FILES.iter().map(|text| format!("{text:?}\n    {}\n", messages(text).join("\n    ")));
    let table: String = lines.chain(files).collect();
    insta::assert_snapshot!(table, @r####"
ports: 80:80
    5:12: error: `ports` must be a list; its items are strings such as "8080:80" or mappings, not `80:80`
ports: ["0"]
    5:13: error: `0` is not a port: ports are numbers from 1 to 65535, not 0
ports: ["65536"]
    5:13: error: `65536` is not a port: ports are numbers from 1 to 65535, not `65536`
ports: ["-1"]
    5:13: error: `-1` is not a port: ports are numbers from 1 to 65535, not `-1`
ports: ["[::1]:80:80"]
    accepted
ports: ["80/sctp"]
    5:13: error: ports of the protocol `sctp` cannot be published
ports: ["80:80", "80:80"]
    accepted
ports: [80:80]
    accepted
ports: [{target: 70000}]
    5:22: error: `target` must be a whole number from 1 to 65535, not a number (70000)
ports: [{target: 80, host_ip: x}]
    5:35: error: `x` is not an IP address
ports: [{published: 80}]
    5:13: error: a port is missing `target`
ports: [true]
    5:13: error: this must be strings such as "8080:80" or a mapping, not a boolean
ports: [~]
    5:13: error: this must be strings such as "8080:80" or a mapping, not nothing
deploy: {replicas: two}
    5:24: error: `replicas` must be a whole number, 0 or more, not `two`
scale: -1
    5:12: error: `scale` must be a whole number, 0 or more, not a number (-1)
scale: 100000
    5:12: error: 100000 containers of one service; at most 10000
{scale: 2, container_name: abc}
    6:1: error: this is not YAML: simple key expect ':'
scale: 2
    container_name: abc
    6:21: error: services.web: can't set container_name and scale as container name must be unique
container_name: ../../etc
    5:21: error: `../../etc` is not a name (a letter or digit, then letters, digits, `_`, `.` and `-`)
container_name: a b
    5:21: error: `a b` is not a name (a letter or digit, then letters, digits, `_`, `.` and `-`)
hostname: "a\nb"
    5:15: error: `a\nb` is not a host name
extra_hosts: ["a=1.2.3.4\n5.6.7.8 b"]
    5:19: error: `1.2.3.4\n5.6.7.8 b` is not an address
extra_hosts: ["a=host-gateway"]
    accepted
extra_hosts: ["a=999.1.1.1"]
    5:19: error: `999.1.1.1` is not an address
extra_hosts: ["a"]
    5:19: error: this must be NAME=ADDRESS
volumes: ["/a:/"]
    5:15: error: the mount target `/` must not be `/`: that is the image's place
volumes: ["/a:/proc"]
    5:15: error: the mount target `/proc` must not lie in /proc: programs trust what they find there
volumes: ["/a:b"]
    5:15: error: the mount target `b` must be absolute
volumes: ["/a:/b/../c"]
    5:15: error: the mount target `/b/../c` must not have `..` in it
volumes: ["/a:/b", "/c:/b"]
    5:24: error: /b is a mount target already
volumes: ["/a:/b:xx"]
    accepted
volumes: ["/a:/b:ro:x"]
    5:15: error: `/a:/b:ro:x` is not a volume: it has more than three parts
volumes: [{type: bond, target: /x}]
    5:22: error: `type` must be one of `bind`, `volume`, `tmpfs`, `cluster`, `npipe` and `image`, not `bond`
volumes: [""]
    5:15: error: `` is not a volume: a part of it is empty
tmpfs: "/a:size=x"
    5:12: error: `size=x` is not an option of a tmpfs
tmpfs: [/a, /a]
    accepted
mem_limit: 1
    5:16: error: 1 bytes of memory are too few for a process; the least is 6 MiB
mem_limit: -1
    5:16: error: `-1` is not a size (a number below 16 EiB with an optional unit b, k, m, g, t or p: `512m`)
mem_limit: 1e30
    5:16: error: `1e+30` is not a size (a number below 16 EiB with an optional unit b, k, m, g, t or p: `512m`)
mem_limit: 6mm
    5:16: error: `6mm` is not a size (a number below 16 EiB with an optional unit b, k, m, g, t or p: `512m`)
mem_limit: 64m
    accepted
cpus: 0
    5:11: error: 0 is not a number of CPUs: from 0.001 to 8192
cpus: -1
    5:11: error: -1 is not a number of CPUs: from 0.001 to 8192
cpus: 0.5
    accepted
cpus: many
    5:11: error: `cpus` must be a number, not `many`
pids_limit: 0
    5:17: error: 0 processes are too few
cpuset: 0-9999
    accepted
cpuset: 1
    5:13: error: `cpuset` must be a string, not a number (1)
sysctls: {kernel.panic: 1}
    5:29: error: the sysctl `kernel.panic` belongs to no namespace of the container: it would change the host
sysctls: {net.core.somaxconn: 1}
    accepted
sysctls: {net.x: "1\n2"}
    5:22: error: the sysctl `net.x` has a value of more than one line
sysctls: {net.core.somaxconn: 1}
    network_mode: host
    5:35: error: the sysctl `net.core.somaxconn` belongs to the network namespace, which is not the container's own
cap_add: [SYS_MODULEX]
    5:15: error: unknown capability `SYS_MODULEX`
cap_add: [ALL]
    accepted
cap_add: [net_admin, CAP_SYS_TIME]
    accepted
cap_drop: ALL
    5:15: error: `cap_drop` must be a list of strings, not `ALL`
user: nosuch
    accepted
user: "0:x"
    accepted
user: "-1"
    5:11: error: the user `-1` has `-1`, which is neither a name nor a number
user: "4294967295"
    5:11: error: the user `4294967295` has the number 4294967295, and the greatest is 4294967294
user: "1:2:3"
    5:11: error: the user `1:2:3` has more than one `:`
user: 1000
    5:11: error: `user` must be a string, not a number (1000)
user: "99999999999"
    5:11: error: the user `99999999999` has the number 99999999999, and the greatest is 4294967294
working_dir: a
    5:18: error: the working directory `a` is not absolute
working_dir: /a
    accepted
command: []
    5:5: error: the key `command` is there twice; it is first in line 4
command: {a: b}
    5:5: error: the key `command` is there twice; it is first in line 4
command: 'a "b'
    5:5: error: the key `command` is there twice; it is first in line 4
entrypoint: []
    accepted
healthcheck: {test: [x], interval: 0s}
    5:25: error: `test` begins with `x` and has 1 items
    5:40: error: `0s` is out of range for `interval`: from 1ms to a year
healthcheck: {test: x, interval: -1s}
    5:38: error: `-1s` is not a duration (numbers with the units us, ms, s, m or h: `1m30s`)
healthcheck: {test: x, interval: 1x}
    5:38: error: `1x` is not a duration (numbers with the units us, ms, s, m or h: `1m30s`)
healthcheck: {test: []}
    5:25: error: `test` is an empty list
healthcheck: {test: [FOO]}
    5:25: error: `test` begins with `FOO` and has 1 items
healthcheck: {test: x, retries: -1}
    5:37: error: `retries` must be a whole number, 0 or more, not a number (-1)
healthcheck: {test: x, timeout: 10000h}
    5:37: error: `10000h` is out of range for `timeout`: from 1ms to a year
healthcheck: {disable: true}
    accepted
healthcheck: {interval: 1s}
    accepted
healthcheck: {test: [CMD]}
    5:25: error: `test` begins with `CMD` and has 1 items
healthcheck: {tset: x}
    5:19: error: unknown key `tset` in a health check
stop_signal: SIGFOO
    5:18: error: `SIGFOO` is not a signal (a name such as `SIGTERM` or `RTMIN+3`, or a number from 1 to 64)
stop_signal: 0
    5:18: error: `0` is not a signal (a name such as `SIGTERM` or `RTMIN+3`, or a number from 1 to 64)
stop_signal: 65
    5:18: error: `65` is not a signal (a name such as `SIGTERM` or `RTMIN+3`, or a number from 1 to 64)
stop_signal: kill
    accepted
stop_signal: RTMIN+3
    accepted
stop_grace_period: -1s
    5:24: error: `-1s` is not a duration (numbers with the units us, ms, s, m or h: `1m30s`)
stop_grace_period: 5
    5:24: error: `5` is not a duration: it has no unit
restart: on-failure:-1
    5:14: error: `on-failure:-1` is not a restart policy (`no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`)
restart: on-failure:x
    5:14: error: `on-failure:x` is not a restart policy (`no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`)
restart: sometimes
    5:14: error: `sometimes` is not a restart policy (`no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`)
restart: no
    accepted
restart: false
    5:14: error: `restart` must be a string, not a boolean (false)
network_mode: bridge
    5:19: error: there is no engine-wide network `bridge` here
network_mode: hots
    5:19: error: `hots` is not a network mode
network_mode: service:x
    5:19: error: service `web` depends on undefined service `x`
network_mode: none
    accepted
privileged: true
    accepted
privileged: false
    accepted
devices: [/dev/null]
    accepted
devices: [sda]
    5:15: error: `sda:sda:rwm` is not a device (`/dev/HOST`, `/dev/HOST:/dev/INSIDE`, and `:rwm` behind either)
device_cgroup_rules: ["c 1:3 r"]
    accepted
device_cgroup_rules: ["c 1:3"]
    5:27: error: `c 1:3` is not a rule about devices (such as `c 10:200 rwm`: a, b or c, numbers or `*`, letters of r, w and m)
pid: host
    accepted
pid: "service:x"
    5:5: error: `pid` is not supported yet, and without it the container would get a namespace of its own in place of the one asked for
    5:10: error: service `web` depends on undefined service `x`
ipc: host
    accepted
secrets: [x]
    5:5: error: `secrets` is not supported yet, and without it files that the service reads would be missing
    5:15: error: service `web` refers to undefined secret `x`
security_opt: [no-new-privileges]
    accepted
security_opt: ["seccomp=unconfined"]
    accepted
security_opt: [foo]
    5:20: error: `foo` is a security option that is not supported
environment: [A=1, 3]
    5:24: error: this must be a string `KEY=VALUE`, not a number
environment: {A: [1]}
    5:22: error: `A` must be a boolean, null, number or string, not a list
environment: A=1
    5:18: error: `environment` must be a mapping or a list of `KEY=VALUE`, not `A=1`
env_file: nope.env
    5:15: error: cannot read the env file /nonexistent/nope.env: No such file or directory (os error 2)
labels: [a, b=c]
    accepted
ulimits: {nofile: 5, nofyle: 6}
    5:34: error: unknown ulimit `nofyle`
ulimits: {nofile: {soft: 9, hard: 5}}
    5:23: error: the soft limit of `nofile` is above the hard one
oom_score_adj: 2000
    5:20: error: `oom_score_adj` must be a whole number from -1000 to 1000, not a number (2000)
logging: {driver: none}
    accepted
dns: 1.1.1.1
    accepted
build: .
    accepted
init: yes
    accepted
tty: maybe
    5:10: error: `tty` must be a boolean (`true` or `false`), not `maybe`
hostname: ${NOPE:?set it}
    5:15: error: required variable NOPE is missing a value: set it
hostname: "a${SET}b"
    accepted
hostname: ${SET
    5:15: error: invalid interpolation format: `${` is never closed
hostname: $
    5:15: error: invalid interpolation format: no variable name follows `$`
hostname: a$$b
    5:15: error: `a$b` is not a host name
hostname: ${${X}}
    5:15: error: invalid interpolation format: no variable name follows `${`
depends_on: [wbe]
    5:18: error: service `web` depends on undefined service `wbe`
depends_on: {web: {condition: healthy}}
    5:18: error: service `web` depends on itself
    5:35: error: `condition` must be one of `service_started`, `service_healthy` and `service_completed_successfully`, not `healthy`
depends_on: {web: {}}
    5:18: error: service `web` depends on itself
    5:23: error: a dependency is missing `condition`
networks: {a: {ipv4_address: x}}
    5:16: error: service `web` refers to undefined network `a`
    5:34: error: `x` is not an IPv4 address
image: alpine
    5:5: error: the key `image` is there twice; it is first in line 3
expose: [80, 90/udp, x]
    5:26: error: `x` is not a port: ports are numbers from 1 to 65535, not `x`
mac_address: x
    5:18: error: `x` is not a hardware address (six bytes such as `02:42:ac:11:00:02`)
links: [db]
    5:13: error: service `web` depends on undefined service `db`
group_add: [1, -1]
    5:20: error: the group `-1` has `-1`, which is neither a name nor a number
shm_size: 64m
    accepted
memswap_limit: 1g
    5:20: error: a limit for swap needs one for memory
read_only: 1
    5:16: error: `read_only` must be a boolean (`true` or `false`), not a number (1)
""
    error: <stdin>: empty compose file
"# c\n"
    error: <stdin>: empty compose file
"services:\n"
    1:9: error: `services` must be a mapping, not nothing
"services: {}\n"
    error: no service selected
"a: [\n"
    2:1: error: this is not YAML: while parsing a node, did not find expected node content
"[]"
    1:1: error: the file must be a mapping, not a list
"x"
    1:1: error: the file must be a mapping, not `x`
"services: {web: {image: root_fs, command: a}, web: {}}"
    1:47: error: the key `web` is there twice; it is first in line 1
"services: {\"\": {image: root_fs, command: a}}"
    1:12: error: the service name `` is empty
"services: {-rf: {image: root_fs, command: a}}"
    1:12: error: the service name `-rf` begins with `-`, so that no command could name it
"services: {é: {image: root_fs, command: a}}"
    1:12: error: the service name `é` has other characters than a-z A-Z 0-9 . _ -
"services: {\"a\\eb\": {image: root_fs, command: a}}"
    1:12: error: the service name `a\eb` has other characters than a-z A-Z 0-9 . _ -
"services: {a: {image: root_fs, command: a, depends_on: [a]}}"
    1:57: error: service `a` depends on itself
"services: {a: {image: root_fs, command: a, container_name: xx}, b: {image: root_fs, command: a, container_name: xx}}"
    1:113: error: services `a` and `b` have the same container_name `xx`
"services: {a: {image: root_fs, command: a, networks: {n: {ipv4_address: 10.1.0.1}}}, b: {image: root_fs, command: a, networks: {n: {ipv4_address: 10.2.0.1}}}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/24}]}}}"
    1:73: error: the address 10.1.0.1 is the gateway's
    1:147: error: the address 10.2.0.1 lies outside the network's subnet 10.1.0.0/24
"services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/33}, {subnet: 10.1.0.1/24}, {subnet: 10.1.0.0/32}, {subnet: 10.1.0.0/24, gateway: 10.1.1.1, ip_range: 10.2.0.0/25}, {subnet: 10.1.0.0/16}, {subnet: 'fd00::/64'}]}}}"
    2:41: error: `10.1.0.0/33` is not a subnet
    2:64: error: the subnet 10.1.0.1/24 has host bits set
    2:87: error: the subnet 10.1.0.0/32 is too small: it has no room for a gateway and a container
    2:132: error: the gateway 10.1.1.1 lies outside the subnet 10.1.0.0/24
    2:152: error: 10.2.0.0/25 is not part of the subnet 10.1.0.0/24
    2:166: error: the subnet 10.1.0.0/16 overlaps 10.1.0.0/24
    2:198: error: fd00::/64 is an IPv6 subnet, and IPv6 is off
"services: {a: {image: root_fs, command: a, extends: a}}"
    1:53: error: circular `extends`: a → a
"services: {a: {image: root_fs, command: a, extends: b}, b: {extends: {service: a}}}"
    1:80: error: circular `extends`: a → b → a
"services: {a: {image: root_fs, command: a, extends: {service: x, file: 'https://x/y.yaml'}}}"
    1:72: error: https://x/y.yaml: remote files are not supported
"include: [nope.yaml]\nservices: {a: {image: root_fs, command: a}}"
    1:11: error: cannot read /nonexistent/nope.yaml: No such file or directory (os error 2)
"services: {a: {image: root_fs, command: a, volumes: ['v:/v']}}\nvolumes: {v: {name: ../x}}"
    1:54: error: the mount target `v:/v` must be absolute
    2:21: error: `../x` is not a name (a letter or digit, then letters, digits, `_`, `.` and `-`)
"services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {driver: brigde, name: 'a;b'}}"
    2:24: error: unknown network driver `brigde`
    2:38: error: `a;b` is not a name (a letter or digit, then letters, digits, `_`, `.` and `-`)
"services: {a: {image: root_fs, command: a, networks: [n, m]}}\nnetworks: {n: {ipam: {config: [{subnet: 10.1.0.0/24}]}}, m: {ipam: {config: [{subnet: 10.1.0.128/25}]}}}"
    2:41: error: the subnet 10.1.0.0/24 overlaps 10.1.0.128/25, which is of the network `m`
"services: {a: {image: root_fs, command: a, networks: [n]}}\nnetworks: {n: {driver_opts: {com.docker.network.bridge.name: a;b, com.docker.network.driver.mtu: 9, com.docker.network.bridge.enable_icc: maybe}}}"
    2:62: error: `a;b` is not a bridge's name
    2:98: error: `9` is not an MTU
    2:139: error: `maybe` is not true or false
"services: {a: {image: root_fs, command: a}}\nserivces: {}"
    2:1: error: unknown key `serivces` in the file
"services: {a: {image: root_fs, command: a}}\nx-foo: {}\nversion: '3'"
    accepted
"services: {a: {profiles: [x], image: root_fs, command: a}}"
    error: no service selected
"services: {a: {image: root_fs, command: a, volumes: ['~/x:/x', '../y:/y', './z:/z']}}"
    accepted
"####);
}

#[test]
fn a_message_shows_line_caret_path_and_help() {
    let text = "services:\n  web:\n    imgae: root_fs\n    image: root_fs\n    command: [a]\n    depends_on: [db]\n  db:\n    image: \"\\u202ex\\e\"\n    command: [a, 3]\n    depends_on:\n      web: {condition: service_started}\n";
    insta::assert_snapshot!(load_text(text).unwrap_err().to_string(), @r####"
<stdin>:3:5: error: unknown key `imgae` in a service
  |
3 |     imgae: root_fs
  |     ^^^^^
  in: services.web.imgae
  help: did you mean `image`?

<stdin>:8:12: error: the image `\u{202e}x\e` cannot be used
  |
8 |     image: "\u202ex\e"
  |            ^^^^^^^^^^^
  in: services.db.image
  help: there is no image store yet; write `root_fs` (the default root filesystem) or `rootfs:DIR`

<stdin>:9:18: error: `command[1]` must be a string, not a number (3)
  |
9 |     command: [a, 3]
  |                  ^
  in: services.db.command[1]
  help: put it in quotes: "3"

<stdin>:11:7: error: dependency cycle detected: db → web → db
   |
11 |       web: {condition: service_started}
   |       ^^^
  in: services.db.depends_on
  help: take one of these away
"####);
}

/// Writes files into a directory and loads what is there by default.
fn load_files(files: &[(&str, &str)], change: impl FnOnce(&mut LoadRequest)) -> Result<Loaded, LoadErrors> {
    let dir = tempfile::Builder::new().prefix("project").tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let mut request =
        LoadRequest { working_dir: dir.path().to_owned(), project_name: Some("p".into()), ..Default::default() };
    change(&mut request);
    load(&request)
}

#[test]
fn an_override_file_is_merged_over_the_default_one() {
    let base = "services:\n  web:\n    image: root_fs\n    command: [a]\n    environment: {A: 1, B: 2}\n    ports: [\"80:80\", \"81:81\"]\n    volumes: [\"./a:/x\"]\n    cap_add: [KILL]\n";
    let over = "services:\n  web:\n    command: b c\n    environment: [A=9]\n    ports: [\"80:80\"]\n    volumes: [\"./b:/x\"]\n    cap_add: !reset []\n";
    let web = load_files(&[("compose.yaml", base), ("compose.override.yaml", over)], |_| {}).unwrap().project.services
        ["web"]
        .clone();
    assert_eq!(web.command, Some(vec!["b".into(), "c".into()]));
    assert_eq!(web.environment, BTreeMap::from([("A".into(), "9".into()), ("B".into(), "2".into())]));
    assert_eq!((web.ports.len(), web.volumes.len(), web.cap_add.len()), (2, 1, 0));
    let VolumeMountKind::Bind { source, .. } = &web.volumes[0].kind else { panic!("{:?}", web.volumes) };
    assert!(source.ends_with("b") && source.is_absolute());
}

#[test]
fn variables_come_from_the_environment_then_dot_env() {
    let yaml = "services:\n  web:\n    image: root_fs\n    command: [\"$A\", \"$B\", \"$NONE\"]\n    env_file: [one.env, {path: no.env, required: false}]\n    environment: {B: , C: c, D: }\n";
    let files = [("compose.yaml", yaml), (".env", "A=file\nB=file\n"), ("one.env", "C=one\nE=$B-e\n")];
    let loaded = load_files(&files, |request| drop(request.environment.insert("B".into(), "env".into()))).unwrap();
    let web = &loaded.project.services["web"];
    assert_eq!(web.command, Some(vec!["file".into(), "env".into(), String::new()]));
    assert_eq!(web.environment, [("B", "env"), ("C", "c"), ("E", "env-e")].map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].message.contains("`NONE` is not set"));
}

#[test]
fn profiles_leave_services_out() {
    let yaml = "services:\n  a: {image: root_fs, command: a}\n  b: {image: root_fs, command: a, profiles: [x]}\n  c: {image: root_fs, command: a, depends_on: {b: {condition: service_started, required: false}}}\n";
    let files = [("compose.yml", yaml)];
    let names = |loaded: Loaded| loaded.project.services.into_keys().collect::<Vec<_>>().join(" ");
    assert_eq!(names(load_files(&files, |_| {}).unwrap()), "a c");
    assert_eq!(names(load_files(&files, |r| r.profiles = vec!["x".into()]).unwrap()), "a b c");
    assert_eq!(names(load_files(&files, |r| r.selected = vec!["b".into()]).unwrap()), "a b c");
    let unknown = load_files(&files, |r| r.profiles = vec!["y".into()]).unwrap_err();
    assert!(unknown.errors[0].message.contains("no service has the profile `y`"));
}

#[test]
fn extends_and_include_keep_the_directories_of_their_files() {
    let main = "include: [sub/compose.yaml]\nservices:\n  web:\n    extends: {file: base/b.yaml, service: web}\n    environment: {B: 2}\n";
    let base = "services:\n  web: {extends: root, environment: {A: 1}}\n  root: {image: \"rootfs:fs\", command: [a], volumes: [\"./v:/v\"], environment: {A: 0}}\n";
    let sub = "services: {db: {image: root_fs, command: [\"$X\"]}}\n";
    let files = [("compose.yaml", main), ("base/b.yaml", base), ("sub/compose.yaml", sub), ("sub/.env", "X=sub\n")];
    let project = load_files(&files, |_| {}).unwrap().project;
    let web = &project.services["web"];
    assert_eq!(web.environment, [("A", "1"), ("B", "2")].map(|(k, v)| (k.into(), v.into())).into());
    assert_eq!(web.image, ImageRef::Directory(project.working_dir.join("base/fs")));
    assert_eq!(project.services["db"].command, Some(vec!["sub".into()]));
    let error = load_files(&[("compose.yaml", "include: [compose.yaml]\n")], |_| {}).unwrap_err();
    assert!(error.errors[0].message.starts_with("circular `include`"), "{error}");
}

#[test]
fn messages_name_the_file_that_brought_the_value() {
    let base = "services: {web: {extends: {file: b.yaml, service: web}}}\n";
    let files =
        [("compose.yaml", base), ("b.yaml", "services:\n  web: {image: root_fs, command: a, restart: maybe}\n")];
    let error = load_files(&files, |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("b.yaml:2:46: error: `maybe` is not a restart policy"), "{error}");
}

#[test]
fn compose_file_and_project_directory_are_obeyed() {
    let yaml = "services: {web: {image: root_fs, command: a, volumes: [\"./x:/x\"]}}\n";
    let files = [("one.yaml", yaml), ("two.yaml", "services: {web: {tty: true}}\n"), ("d/keep", "")];
    let loaded = load_files(&files, |request| {
        request.environment.insert("COMPOSE_FILE".into(), "one.yaml;two.yaml".into());
        request.environment.insert("COMPOSE_PATH_SEPARATOR".into(), ";".into());
        request.environment.insert("COMPOSE_PROJECT_NAME".into(), "named".into());
        request.project_name = None;
        request.project_directory = Some("d".into());
    })
    .unwrap();
    assert!(loaded.project.services["web"].tty);
    assert_eq!(loaded.project.name, "named");
    assert!(loaded.project.working_dir.ends_with("d"));
    assert_eq!(loaded.project.networks["default"].name, "named_default");
}

#[test]
fn the_config_hash_looks_at_what_a_container_is_made_of() {
    let hash = |line: &str| load_text(&in_service(line)).unwrap().project.services["web"].config_hash();
    let plain = hash("tty: false");
    assert_eq!(plain.len(), 64);
    assert_eq!(plain, hash("scale: 3"));
    assert_ne!(plain, hash("tty: true"));
    assert_ne!(plain, hash("environment: [A=1]"));
}

#[test]
fn the_order_of_services_is_known() {
    let yaml = "services:\n  a: {image: root_fs, command: a, depends_on: [b, c]}\n  b: {image: root_fs, command: a, depends_on: [c]}\n  c: {image: root_fs, command: a}\n  d: {image: root_fs, command: a}\n";
    let graph = DependencyGraph::of(&load_text(yaml).unwrap().project);
    assert_eq!(graph.levels(), [vec!["c", "d"], vec!["b"], vec!["a"]]);
    assert_eq!(graph.dependants("c").collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(graph.with_dependencies(["b"]).into_iter().collect::<Vec<_>>(), ["b", "c"]);
}

#[test]
fn files_that_are_no_files_are_refused() {
    for (file, word) in
        [("/dev/zero", "a character device"), ("/", "a directory"), ("/nonexistent.yaml", "No such file")]
    {
        let request = LoadRequest { files: vec![file.into()], working_dir: "/".into(), ..Default::default() };
        let error = load(&request).unwrap_err();
        assert!(error.errors.len() == 1 && error.to_string().contains(word), "{error}");
    }
    let none = load(&LoadRequest { working_dir: Path::new("/proc/self").into(), ..Default::default() }).unwrap_err();
    assert!(none.to_string().contains("no compose file found"), "{none}");
}

#[test]
fn files_that_multiply_end_soon() {
    let services = |line: &dyn Fn(usize) -> String| (0..5000).map(line).collect::<String>();
    let wide: String = (0..5000).map(|n| format!("      V{n}: x\n")).collect();
    let copies = format!(
        "services:\n  b:\n    image: root_fs\n    command: a\n    environment:\n{wide}{}",
        services(&|n| format!("  s{n}: {{extends: b}}\n"))
    );
    let chain = format!("services:\n{}", services(&|n| format!("  s{n}: {{extends: s{}}}\n", n + 1)));
    for (text, message) in
        [(copies, "the files together stand for more than"), (chain, "`extends` goes on over more than 100")]
    {
        let error = load_text(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{}", &error[..200]);
    }
    let twice = |n: usize| (format!("f{n}.yaml"), format!("include: [f{0}.yaml, f{0}.yaml]\n", n + 1));
    let files: Vec<(String, String)> =
        (0..40).map(twice).chain([("f40.yaml".into(), in_service("tty: true"))]).collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let error = load_files(&files, |request| request.files = vec!["f0.yaml".into()]).unwrap_err().to_string();
    assert!(error.contains("the files together stand for more than"), "{error}");
}

#[test]
fn text_that_multiplies_ends_soon() {
    let big = "v".repeat(1 << 19);
    let quadratic = format!("x-a: &a {}\nx-b: [{}]\n", "x".repeat(100_000), "*a,".repeat(20_000));
    let variables = format!("x-b: [{}]\n", "$BIG,".repeat(20_000));
    let extended: String = (0..1_000).map(|n| format!("  s{n}: {{extends: base}}\n")).collect();
    let extended = format!("services:\n  base: {{image: root_fs, command: a, labels: {{a: {big}}}}}\n{extended}");
    let cases = [
        (quadratic, "aliases stand for more than 4 MiB of text"),
        (variables, "with the values of variables there are more than 16 MiB of text"),
        (extended, "the files together stand for more than 16 MiB of text"),
    ];
    for (text, message) in cases {
        let mut request = request(&text);
        request.environment.insert("BIG".to_owned(), big.clone());
        let error = load(&request).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
        assert!(error.len() < 20_000, "{} bytes", error.len());
    }
}

#[test]
fn config_prints_what_it_reads_again() {
    let text = "services:\n  web:\n    image: root_fs\n    command: a $$b\n    ports: [\"80-81:80-81\"]\n    depends_on: [db]\n    stop_grace_period: 90s\n  db: {image: root_fs, command: x, mem_limit: 64m, healthcheck: {test: \"true\"}}\n";
    let printed = config(&request(text)).unwrap().document.to_yaml();
    let again = load_text(&printed.replace('$', "$$")).unwrap();
    assert_eq!(again.project, load_text(text).unwrap().project);
}

proptest::proptest! {
    #[test]
    fn no_file_makes_it_panic(text in "((services|web|image|ports|volumes|x-a|<<|a): ?|[-\\[\\]{}&*!$,:'\"#|> \n]|&a|\\*a|!reset |root_fs|80:80|\\$\\{A:-|\n  |\n    ){0,60}") {
        let _ = load_text(&text);
        let _ = config(&request(&text));
    }

    #[test]
    fn no_value_makes_it_panic(key in 0..100_usize, value in "[-a-z0-9:/=.,$ {}\\[\\]]{0,20}") {
        let fields = super::schema::SERVICE.fields;
        let _ = load_text(&in_service(&format!("{}: {value}", fields[key % fields.len()].name)));
    }
}
