# The image of every node: Ray's own, of the version in constraints.txt, with doodle_dist in it.
#
#   docker build -t registry.example.com/doodle-dist:ray2.60.0 . && docker push registry.example.com/doodle-dist:ray2.60.0
#
# What changes seldom comes first: a change of the code alone makes the last, small layers anew.
ARG RAY_IMAGE=rayproject/ray:2.60.0-py311-gpu

FROM ${RAY_IMAGE} AS wheel
WORKDIR /home/ray/build
COPY --chown=1000:100 pyproject.toml README.md ./
COPY --chown=1000:100 doodle_dist ./doodle_dist
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels .

FROM ${RAY_IMAGE}
LABEL org.opencontainers.image.title="doodle_dist" \
      org.opencontainers.image.description="Train doodle generators and classifiers on Ray" \
      org.opencontainers.image.licenses="Apache-2.0"
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Ray's image is made for building too. C compilers, and a way to become root, have no use on a node; CUDA stays as Ray
# ships it. The one exception is data.rasterize=device: Triton builds a small C module when it first starts a kernel, so
# for that setting keep the compilers with `docker build --build-arg PURGED=sudo`. Without them it is refused in a line.
ARG PURGED='build-essential|cmake|make|sudo|(gcc|g\+\+)(-[0-9]+)?(-(x86-64|aarch64)-linux-gnu)?'
USER 0
RUN dpkg-query --show --showformat='${Package}\n' \
    | grep --extended-regexp --line-regexp "${PURGED}" \
    | SUDO_FORCE_REMOVE=yes xargs --no-run-if-empty apt-get purge --yes --auto-remove \
    && rm -rf /var/lib/apt/lists/*

USER 1000:100
WORKDIR /home/ray
COPY --chown=1000:100 pyproject.toml constraints.txt ./
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
        > requirements.txt \
    && pip install --no-cache-dir --only-binary :all: --constraint constraints.txt --requirement requirements.txt
COPY --chown=1000:100 --from=wheel /home/ray/build/wheels wheels/
RUN pip install --no-cache-dir --no-deps wheels/*.whl && rm -r wheels

ENV RAY_AUTH_MODE=token \
    RAY_TRAIN_V2_ENABLED=1 \
    PYTHONUNBUFFERED=1
# Ray's agent on each node says whether its raylet lives; this path asks for no token.
HEALTHCHECK --interval=30s --timeout=10s --start-period=90s --retries=3 \
    CMD ["wget", "--quiet", "--timeout=5", "--output-document=/dev/null", "http://127.0.0.1:52365/api/local_raylet_healthz"]
CMD ["doodle-dist", "--help"]
