# Stands in for the official image of an older major version: its server, and the clients of the newer image.
ARG BASE
FROM ${BASE}
COPY . /usr/lib/postgresql/16
ENV PATH=/usr/lib/postgresql/16/bin:/usr/lib/postgresql/17/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["postgres"]
