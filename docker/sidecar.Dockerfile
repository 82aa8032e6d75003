FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The packages first: a changed line of ours then costs no installation. pip compiles them, for the user below cannot.
COPY requirements/constraints.txt requirements/sidecar.txt requirements/
RUN pip install -r requirements/sidecar.txt

# A named volume takes over the owner of the folder it is mounted on.
RUN useradd --system --uid 10001 --create-home bridge && install -d -o bridge /spool
COPY bridge bridge
COPY sidecar sidecar
COPY docker/health.py docker/
RUN python -m compileall -q bridge sidecar

USER bridge
EXPOSE 9100
