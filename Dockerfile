# The course on a CPU, for a user without rights; it runs with --network none. Building it needs a network.
# ENGINES=1 adds what builds TensorRT's engines: read NVIDIA's licence before you give such an image to others.
FROM python:3.12-slim
ARG ENGINES=0
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir uv && useradd --create-home --uid 1000 learner
COPY --chown=learner . /home/learner/dynamic-shapes
WORKDIR /home/learner/dynamic-shapes
USER learner
# setup uses uv, which takes PyTorch's small CPU build.
RUN python -m tutorial_lib setup --no-lab --engines $ENGINES \
    && .venv/bin/python tools/course.py build/course && uv cache clean
ENV PATH=/home/learner/dynamic-shapes/.venv/bin:$PATH
EXPOSE 8888
CMD ["jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=build/course"]
