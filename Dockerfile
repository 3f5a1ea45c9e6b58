# Images of Halite. Targets:
#
#   master, minion               built from source, in here:        docker build --target master -t halite-master .
#   master-ready, minion-ready   from a release build on this host: cargo build --release --bins, then the same with
#                                --target master-ready
#
# BuildKit is not needed. Without it every stage above the target is run, so what builds from source stands last.
ARG DEBIAN=debian:bookworm-slim
ARG RUST=rust:1.95-bookworm

# One layer under both: a system user with a number that is the same in every image, for volumes belong to it, and the
# folders of both roles. A volume takes over the owner of the folder that it is mounted on when it is first used. The minion's
# are open to the group, for one that runs as root without the capability to pass over modes (docker-compose.yml).
FROM ${DEBIAN} AS base
RUN groupadd --system --gid 450 halite \
    && useradd --system --uid 450 --gid halite --home-dir /nonexistent --no-create-home --shell /usr/sbin/nologin halite \
    && install -d /etc/halite/master.d /etc/halite/minion.d /srv/salt \
    && install -d -o halite -g halite -m 0775 /etc/halite/pki /run/halite \
    && install -d -o halite -g halite -m 0770 /etc/halite/pki/minion /var/cache/halite/minion \
    && install -d -o halite -g halite -m 0700 /etc/halite/pki/master /var/cache/halite/master
USER halite
STOPSIGNAL SIGTERM

FROM base AS master-base
EXPOSE 4505 4506
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["halite", "doctor", "--quiet"]
ENTRYPOINT ["halite-master"]

FROM base AS minion-base
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["halite-minion", "doctor", "--quiet"]
ENTRYPOINT ["halite-minion"]

FROM master-base AS master-ready
COPY target/release/halite target/release/halite-master /usr/bin/

FROM minion-base AS minion-ready
COPY target/release/halite-minion /usr/bin/

FROM ${RUST} AS source
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY proto proto
COPY render render
COPY transport transport
COPY master master
COPY minion minion
COPY man man
COPY tests tests
RUN cargo build --release --locked --bin halite --bin halite-master --bin halite-minion

FROM master-base AS master
COPY --from=source /build/target/release/halite /build/target/release/halite-master /usr/bin/

FROM minion-base AS minion
COPY --from=source /build/target/release/halite-minion /usr/bin/
