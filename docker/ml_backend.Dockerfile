FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app

# The only image with torch. Its ordinary wheel carries the CUDA libraries and runs on a CPU as it is: one image for both.
# Three steps as in stack/setup.sh, in one layer: requirements/opencv.txt replaces files of the first.
COPY requirements/constraints.txt requirements/ml_backend.txt requirements/opencv.txt requirements/
RUN pip install -r requirements/ml_backend.txt \
    && pip install --no-deps --force-reinstall -r requirements/opencv.txt

# A named volume takes over the owner of the folder it is mounted on. The weights are mounted, not copied.
RUN useradd --system --uid 10001 --create-home bridge && install -d -o bridge /cache
COPY bridge bridge
COPY ml_backend ml_backend
COPY docker/health.py docker/
RUN python -m compileall -q bridge ml_backend

USER bridge
EXPOSE 9090
