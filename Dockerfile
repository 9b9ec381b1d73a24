# The image of every role: one Python environment from the locked requirements, and nothing that builds or installs.
#
#     docker build -t tickwatch:dev .        (or: podman, buildah, kaniko)
#
# Stages: `build` makes the environment, `trimmed` takes the base image apart, `listed` writes down what that leaves, and the
# last one flattens it, because a file deleted in a later layer is still shipped in the earlier one. Packages come from
# where pip's own settings on the building machine say.

FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /source
# What builds the wheel and lists the image stays out of the environment that is shipped.
COPY requirements-build.txt ./
RUN python -m venv /builder && /builder/bin/python -m pip install --quiet --require-hashes -r requirements-build.txt
COPY requirements.txt ./
RUN python -m venv --without-pip /opt/tickwatch \
 && python -m pip --python /opt/tickwatch/bin/python install --quiet --no-compile --require-hashes -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY clients/python clients/python
COPY services services
RUN /builder/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheel . \
 && python -m pip --python /opt/tickwatch/bin/python install --quiet --no-compile --no-deps /wheel/*.whl \
 && find /opt/tickwatch -depth -type d \( -name tests -o -name test \) -path '*/numpy/*' -exec rm -r {} +

FROM python:3.11-slim-bookworm AS trimmed
COPY --from=build /opt/tickwatch /opt/tickwatch
COPY packaging /tmp/packaging
# Bytecode is checked against nothing at start: the file system is read-only, and a collector pays its start each minute.
# Debian's package manager, and the Perl that it alone needs, go by its own hand, so that its database stays true.
RUN python /tmp/packaging/trim.py && /opt/tickwatch/bin/python -B /tmp/packaging/check.py \
 && dpkg --purge --force-remove-essential --force-depends apt perl-base && rm -r /tmp/packaging

FROM trimmed AS listed
COPY --from=build /builder /builder
COPY pyproject.toml packaging/sbom.py /source/
RUN /builder/bin/python /source/sbom.py /source/pyproject.toml /opt/tickwatch/bin/python /tickwatch.cdx.json

FROM scratch
COPY --from=trimmed / /
COPY --from=listed /tickwatch.cdx.json /usr/share/sbom/tickwatch.cdx.json
ENV PATH=/opt/tickwatch/bin:/usr/local/bin:/usr/bin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="tickwatch" \
      org.opencontainers.image.licenses="MIT"
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
WORKDIR /var/lib/tickwatch
# grpc and Python keep nothing on disk; a role on Kubernetes needs no writable folder.
ENTRYPOINT ["tickwatch"]
CMD ["--help"]
