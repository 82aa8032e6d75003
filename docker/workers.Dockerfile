FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The packages first: a changed line of ours then costs no installation. pip compiles them, for the user below cannot.
COPY requirements/constraints.txt requirements/workers.txt requirements/
RUN pip install -r requirements/workers.txt

RUN useradd --system --uid 10001 --create-home bridge
COPY bridge bridge
COPY workers workers
COPY docker/health.py docker/
RUN python -m compileall -q bridge workers

USER bridge
