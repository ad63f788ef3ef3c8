# mountsync in a container: docs/operations.md, "In a container".
#
#   docker build -t mountsync .
#
# BASE is any Debian 12 or later; pin it by digest where builds must repeat to the byte. EXTRAS are remote
# types with libraries of their own. PIP_OPTIONS is for builders without the public index.
ARG BASE=docker.io/library/debian:12-slim

FROM ${BASE} AS build
ARG EXTRAS=s3,modal
ARG PIP_OPTIONS=""
# What pyfuse3 is built with; the lock file has what is run.
ARG BUILD_TOOLS="Cython==3.3.1 setuptools_scm==10.3.4"
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev libfuse3-dev pkg-config python3-dev python3-venv \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN python3 -m venv /opt/mountsync \
 && /opt/mountsync/bin/pip install ${PIP_OPTIONS} -c requirements.lock setuptools ${BUILD_TOOLS}
COPY share share
COPY mountsync mountsync
# Every version is the one of the lock file. Nothing that only builds stays, and of the descriptions of
# several hundred services those of S3 and of what gives credentials for it.
RUN /opt/mountsync/bin/pip install ${PIP_OPTIONS} --no-build-isolation -c requirements.lock ".[${EXTRAS}]" \
 && /opt/mountsync/bin/pip uninstall -y Cython setuptools_scm setuptools pip \
 && find /opt/mountsync -path '*/botocore/data/*' -prune -type d \
        ! -name s3 ! -name sts ! -name sso ! -name sso-oidc ! -name signin -exec rm -rf {} + \
 && find /opt/mountsync -path '*/site-packages/pyfuse3/*.so' -exec strip --strip-unneeded {} +

FROM ${BASE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates fuse3 libfuse3-3 python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/log/apt /var/log/dpkg.log \
 && echo user_allow_other >>/etc/fuse.conf \
 && groupadd --gid 1000 mountsync \
 && useradd --uid 1000 --gid 1000 --home-dir /home/mountsync --create-home --shell /usr/sbin/nologin mountsync \
 && install -d -o mountsync -g mountsync -m 0700 /state \
 && install -d -o mountsync -g mountsync /config /mnt/remote
COPY --from=build /opt/mountsync /opt/mountsync
ENV PATH=/opt/mountsync/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/home/mountsync \
    LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 \
    MOUNTSYNC_CONFIG=/config/config.toml \
    XDG_STATE_HOME=/state
USER 1000:1000
WORKDIR /home/mountsync
VOLUME /state
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=2m --retries=3 \
    CMD ["mountsync", "health", "--accept", "offline"]
ENTRYPOINT ["mountsync"]
CMD ["--help"]
