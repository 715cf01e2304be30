// SPDX-License-Identifier: MIT OR Apache-2.0
//! Images whose work should not be emulated, by their names. To add some, add a row, or a name to one.
//!
//! That QEMU's user mode has no io_uring, Linux AIO, bpf(2) and seccomp(2) was seen with version 7.2 on Linux 6, for
//! programs of arm64 and amd64; that it has of the netlink families only a few, for those of arm64.

/// A kind of work.
#[derive(Debug, PartialEq, Eq)]
pub struct Workload {
    /// What it is, in a word or two.
    pub kind: &'static str,
    /// Why it should not be emulated, in a sentence.
    pub reason: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// The last parts of the repositories that do it, without registry, tag and digest.
    images: &'static [&'static str],
}

const SLOW: &str = "https://docs.docker.com/build/building/multi-platform/#qemu";

/// All that are known. The first that fits counts.
pub static WORKLOADS: &[Workload] = &[
    Workload {
        kind: "database",
        reason: "SQL Server does not start in QEMU: it maps memory at addresses that QEMU has not free for it",
        source: "https://github.com/microsoft/mssql-docker/issues/668",
        images: &["mssql/server", "mssql-server-linux"],
    },
    Workload {
        kind: "database",
        reason: "MongoDB from version 5.0 on needs AVX on amd64, which QEMU before 7.2 has not, and with a newer one every \
                 query still pays for the translation of each instruction",
        source: "https://github.com/docker-library/mongo/issues/485",
        images: &["mongo", "mongodb", "mongodb-community-server", "percona-server-mongodb", "unifi-db"],
    },
    Workload {
        kind: "database",
        reason: "InnoDB writes through io_uring or Linux AIO, and QEMU's user mode has neither, so that it falls back to \
                 the slowest way, with every instruction translated besides",
        source: "https://github.com/qemu/qemu/blob/master/linux-user/syscall.c",
        images: &[
            "mysql",
            "mysql-server",
            "community-server",
            "mariadb",
            "mariadb-galera",
            "percona",
            "percona-server",
            "percona-xtradb-cluster",
            "yobasystems/alpine-mariadb",
        ],
    },
    Workload {
        kind: "database",
        reason: "a database computes for every request (it sorts, hashes, checks sums), and each instruction of that is \
                 translated",
        source: SLOW,
        images: &[
            "postgres",
            "scylla",
            "postgresql",
            "postgresql-repmgr",
            "postgis",
            "pgvector",
            "pgvecto-rs",
            "vchord-postgres",
            "vchord-suite",
            "timescaledb",
            "timescaledb-ha",
            "pgautoupgrade",
            "postgres-alpine",
            "cockroach",
            "clickhouse",
            "clickhouse-server",
            "influxdb",
            "victoria-metrics",
            "couchdb",
            "couchbase",
            "firebird",
            "redis",
            "redis-stack",
            "redis-stack-server",
            "valkey",
            "keydb",
            "dragonfly",
            "meilisearch",
            "typesense",
            "qdrant",
            "milvus",
            "weaviate",
            "rethinkdb",
        ],
    },
    Workload {
        kind: "Java program",
        reason: "a Java virtual machine makes machine code while it runs, which QEMU translates a second time; it has also \
                 crashed there",
        source: "https://github.com/docker/for-mac/issues/7172",
        images: &[
            "elasticsearch",
            "opensearch",
            "logstash",
            "solr",
            "graylog",
            "cassandra",
            "neo4j",
            "kafka",
            "cp-kafka",
            "zookeeper",
            "activemq",
            "jenkins",
            "nexus3",
            "sonarqube",
            "teamcity-server",
            "keycloak",
            "tika",
            "unifi-controller",
            "unifi-network-application",
            "omada-controller",
            "minecraft-server",
            "stirling-pdf",
            "s-pdf",
            "openhab",
            "metabase",
        ],
    },
    Workload {
        kind: "media transcoder",
        reason: "transcoding computes without a pause on vector instructions, each of which is translated",
        source: SLOW,
        images: &[
            "jellyfin",
            "plex",
            "pms-docker",
            "emby",
            "embyserver",
            "tdarr",
            "tdarr_node",
            "handbrake",
            "makemkv",
            "mkvtoolnix",
            "ffmpeg",
            "unmanic",
            "fileflows",
            "peertube",
            "owncast",
            "ersatztv",
            "tvheadend",
        ],
    },
    Workload {
        kind: "machine learning",
        reason: "machine learning computes on vector instructions without a pause; libraries for it that need AVX on amd64 \
                 do not start with QEMU before 7.2 at all",
        source: "https://github.com/docker/for-mac/issues/6620",
        images: &[
            "immich-machine-learning",
            "ollama",
            "localai",
            "local-ai",
            "llama.cpp",
            "vllm-openai",
            "text-generation-inference",
            "tensorflow",
            "tensorflow/serving",
            "pytorch",
            "tritonserver",
            "frigate",
            "deepstack",
            "codeproject.ai-server",
            "codeproject/ai-server",
            "compreface",
            "compreface-core",
            "wyoming-whisper",
            "wyoming-piper",
            "faster-whisper",
            "whisper-asr-webservice",
            "libretranslate",
            "photoprism",
        ],
    },
    Workload {
        kind: "compiler",
        reason: "the Go compiler has crashed when it ran in QEMU, which the Go project does not support; it builds for other \
                 platforms natively (FROM --platform=$BUILDPLATFORM, GOARCH)",
        source: "https://github.com/golang/go/issues/69255",
        images: &["golang"],
    },
    Workload {
        kind: "compiler",
        reason: ".NET is not supported in QEMU, and `dotnet restore` has hung there",
        source: "https://github.com/dotnet/core/blob/main/release-notes/8.0/supported-os.md#qemu",
        images: &["dotnet/sdk", "dotnet/nightly/sdk", "dotnet/runtime", "dotnet/aspnet"],
    },
    Workload {
        kind: "compiler",
        reason: "compiling is what takes longest in QEMU, and Cargo for a 32-bit platform fails on file systems with large \
                 directory offsets",
        source: "https://github.com/rust-lang/cargo/issues/8719",
        images: &["rust", "rust-musl-builder", "rust-musl-cross", "cargo-chef"],
    },
    Workload {
        kind: "compiler",
        reason: "npm and what it compiles have hung or crashed in QEMU, most for 32-bit ARM",
        source: "https://github.com/nodejs/docker-node/issues/1946",
        images: &["node"],
    },
    Workload {
        kind: "compiler",
        reason: "compiling computes without a pause, and each instruction of it is translated",
        source: SLOW,
        images: &["gcc", "clang", "buildpack-deps", "maven", "gradle", "swift", "haskell", "erlang", "emsdk", "ghc"],
    },
    Workload {
        kind: "build server",
        reason: "GitLab holds PostgreSQL, Redis and a Ruby server in one container, all of which compute, and each \
                 instruction of that is translated",
        source: SLOW,
        images: &["gitlab/gitlab-ce", "gitlab/gitlab-ee", "sameersbn/gitlab"],
    },
    Workload {
        kind: "container engine",
        reason: "an engine needs bpf(2) and seccomp(2) to confine its containers, and QEMU's user mode has neither",
        source: "https://github.com/qemu/qemu/blob/master/linux-user/syscall.c",
        images: &["docker", "dind", "moby/buildkit", "podman/stable", "rancher/k3s", "k3s-io/k3s", "kindest/node"],
    },
    Workload {
        kind: "network filter",
        reason: "it sets up filters or tunnels by netlink, of which QEMU's user mode has neither the family of nftables nor \
                 the one of WireGuard",
        source: "https://github.com/multiarch/qemu-user-static/issues/191",
        images: &["wireguard", "wg-easy", "gluetun", "tailscale", "fail2ban", "netbird", "crowdsec-firewall-bouncer"],
    },
];

/// What the image `reference` does that should not be emulated; none where nothing is known against it.
///
/// Only whole parts of its repository's name count, from the end: `registry.example:5000/mirror/postgres:16@sha256:…` is
/// `postgres`, and `postgres-exporter` is not.
pub fn unfit(reference: &str) -> Option<&'static Workload> {
    let repository = repository(reference);
    let fits = |image: &&str| {
        let rest = repository.strip_suffix(*image);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    WORKLOADS.iter().find(|workload| workload.images.iter().any(fits))
}

/// `reference` without registry, tag and digest.
fn repository(reference: &str) -> String {
    let name = reference.split('@').next().unwrap_or_default();
    let (host, path) = name.split_once('/').unwrap_or(("", name));
    let is_host = host.contains(['.', ':']) || host == "localhost";
    let path = if is_host || host.is_empty() { path } else { name };
    let last = path.rfind('/').map_or(0, |at| at + 1);
    let end = path[last..].find(':').map_or(path.len(), |at| last + at);
    path[..end].to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_known_by_whole_parts_of_their_names() {
        for (reference, kind) in [
            ("postgres", "database"),
            ("postgres:16-alpine", "database"),
            ("docker.io/library/postgres", "database"),
            ("bitnami/postgresql:16", "database"),
            ("registry.example:5000/mirror/postgres:16@sha256:0123", "database"),
            ("localhost/mariadb", "database"),
            ("tensorchord/pgvecto-rs:pg14-v0.2.0", "database"),
            ("mcr.microsoft.com/mssql/server:2022-latest", "database"),
            ("docker.elastic.co/elasticsearch/elasticsearch:8.17.0", "Java program"),
            ("jenkins/jenkins:lts", "Java program"),
            ("lscr.io/linuxserver/jellyfin", "media transcoder"),
            ("plexinc/pms-docker", "media transcoder"),
            ("ghcr.io/immich-app/immich-machine-learning:release", "machine learning"),
            ("ghcr.io/blakeblackshear/frigate:stable", "machine learning"),
            ("golang:1.23-alpine", "compiler"),
            ("gitlab/gitlab-ce", "build server"),
            ("docker:dind", "container engine"),
            ("MIRROR.example/Mongo:7", "database"),
        ] {
            assert_eq!(unfit(reference).map(|workload| workload.kind), Some(kind), "{reference}");
        }
        for reference in [
            "",
            "alpine",
            "vaultwarden/server:1.33.2",
            "pihole/pihole",
            "prometheuscommunity/postgres-exporter",
            "notpostgres",
            "postgres/tool",
            "example/server",
            "ghcr.io/immich-app/immich-server",
            "gitlab/gitlab-runner",
            "registry:5000",
            "postgres.example/app",
            "someone/mynode",
        ] {
            assert_eq!(unfit(reference), None, "{reference}");
        }
        assert!(unfit("mongo:7").is_some_and(|workload| workload.reason.contains("AVX")));
    }

    #[test]
    fn the_table_is_well_formed() {
        let mut seen = std::collections::BTreeSet::new();
        for workload in WORKLOADS {
            assert!(workload.source.starts_with("https://"), "{workload:?}");
            assert!(!workload.reason.ends_with('.') && !workload.kind.is_empty(), "{workload:?}");
            for image in workload.images {
                assert_eq!(repository(image), *image, "as references are read");
                assert!(seen.insert(*image), "{image} is here twice");
            }
        }
    }
}
