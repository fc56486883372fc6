# A node, a monitor and the command line in one image: docker build -t rendezvous-raft .

FROM python:3.11-slim AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY rendezvous_raft rendezvous_raft
RUN python -m venv /opt/rendezvous \
    && /opt/rendezvous/bin/pip install '.[server,cli,monitor,redis]'

FROM python:3.11-slim
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="rendezvous-raft" \
      org.opencontainers.image.description="A Raft-replicated, multi-region metadata store that prevents cross-service inconsistencies." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# tini collects orphans and passes signals on; a node drains on SIGTERM.
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 10001 rendezvous \
    && useradd --system --uid 10001 --gid 10001 --no-create-home \
       --home-dir /var/lib/rendezvous --shell /usr/sbin/nologin rendezvous \
    && install -d -m 0700 -o rendezvous -g rendezvous /var/lib/rendezvous

COPY --from=build /opt/rendezvous /opt/rendezvous
ENV PATH=/opt/rendezvous/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    RENDEZVOUS_CONFIG=/etc/rendezvous/rendezvous.toml \
    RENDEZVOUS_DATA_DIR=/var/lib/rendezvous

USER 10001:10001
WORKDIR /var/lib/rendezvous
VOLUME ["/var/lib/rendezvous"]
# gRPC, HTTP, Raft. The addresses to listen on come from the configuration.
EXPOSE 7600 7601 7602
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD rendezvous check health --local || exit 1
ENTRYPOINT ["tini", "--", "rendezvous"]
CMD ["server", "run"]
