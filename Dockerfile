# The kit's images: docker build --target gateway|worker|autoscaler|flower .
# Each is PYTHON_IMAGE and one virtual environment, /app, with the versions of constraints.txt and without pip.
ARG PYTHON_IMAGE=python:3.13-slim


FROM ${PYTHON_IMAGE} AS builder
ENV PIP_CONSTRAINT=/source/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ONLY_BINARY=:all: \
    PIP_PYTHON=/app/bin/python \
    PIP_QUIET=1
WORKDIR /source
RUN python3 -m venv /build && python3 -m venv --without-pip /app
COPY constraints.txt pyproject.toml README.md ./
# one file of requirements per image, so that what they bring stays cached while our code changes
RUN python3 -c "import tomllib; \
project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
[open(f'{extra}.txt', 'w').write('\n'.join([*project['dependencies'], *more])) \
    for extra, more in project['optional-dependencies'].items()]"


FROM builder AS code
COPY services services
RUN /build/bin/pip wheel --no-deps --wheel-dir /wheels .


FROM builder AS gateway-app
RUN /build/bin/pip install --requirement gateway.txt
COPY --from=code /wheels /wheels
RUN /build/bin/pip install --no-deps /wheels/*.whl

FROM builder AS worker-app
RUN /build/bin/pip install --requirement worker.txt
COPY --from=code /wheels /wheels
RUN /build/bin/pip install --no-deps /wheels/*.whl

FROM builder AS autoscaler-app
RUN /build/bin/pip install --requirement autoscaler.txt
COPY --from=code /wheels /wheels
RUN /build/bin/pip install --no-deps /wheels/*.whl

FROM builder AS flower-app
RUN /build/bin/pip install --requirement flower.txt
COPY --from=code /wheels /wheels
RUN /build/bin/pip install --no-deps /wheels/*.whl


FROM ${PYTHON_IMAGE} AS runtime
ARG VERSION
LABEL org.opencontainers.image.title="celery-kit" \
    org.opencontainers.image.description="Tornado gateway, Celery workers, Flower, and an autoscaler for them" \
    org.opencontainers.image.version="${VERSION}"
ENV PATH=/app/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# nothing installs anything here; and who runs it has a name, as Celery asks for it
RUN rm -rf /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/pip* /usr/local/bin/pip* \
    && echo 'celery-kit:x:10001:' >>/etc/group \
    && echo 'celery-kit:x:10001:10001::/nonexistent:/usr/sbin/nologin' >>/etc/passwd
USER 10001:10001


FROM runtime AS gateway
COPY --from=gateway-app /app /app
EXPOSE 8000
ENTRYPOINT ["python", "-m", "gateway"]

FROM runtime AS worker
COPY --from=worker-app /app /app
EXPOSE 8001
ENTRYPOINT ["python", "-m", "worker"]

FROM runtime AS autoscaler
# What a tick leaves goes back to the kernel: with a thousand pools it is a few MiB.
ENV MALLOC_ARENA_MAX=1 \
    MALLOC_TOP_PAD_=0 \
    MALLOC_TRIM_THRESHOLD_=65536
COPY --from=autoscaler-app /app /app
EXPOSE 8002
ENTRYPOINT ["python", "-m", "autoscaler"]

FROM runtime AS flower
COPY --from=flower-app /app /app
COPY services/flower/flowerconfig.py /app/
EXPOSE 5555
ENTRYPOINT ["python", "-m", "celery", "-A", "celerykit.app", "flower", "--conf=/app/flowerconfig.py"]
