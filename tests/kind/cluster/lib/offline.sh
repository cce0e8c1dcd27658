# For machines that reach no image registry: builds Kubernetes and the tools from Go modules, and images from
# Debian's packages. Each thing is named by a checksum of everything that it is made of, including the
# function that makes it, and is made once.
# shellcheck shell=bash
# shellcheck disable=SC2154 # versions.sh sets the version of Kubernetes; scripts/images needs none.

offline_everything() {
  offline_prepare
  at_once build_programs build_tools build_images
  image node "$node_key" make_node
  # shellcheck disable=SC2034 # Used by `create` in cluster.sh.
  node_image=$ours/node:$node_key
}

# Makes again what a cluster that exists needs beside its nodes: the tools, and the images of the backends.
offline_beside() {
  offline_prepare
  at_once build_programs build_tools build_backends
}

offline_prepare() {
  command -v go > /dev/null || fail 'no registry answers, and without Go the cluster cannot be built: install Go 1.25 or later'
  offline_packages
  offline_keys
}

offline_packages() {
  command -v mmdebstrap > /dev/null || phase 'installing mmdebstrap' install_packages mmdebstrap debian-archive-keyring
}

offline_keys() {
  local go
  go=$(go version)
  # The compiler collects garbage less often, and writes nothing for debuggers.
  export CGO_ENABLED=0 GOTOOLCHAIN=local GOGC=400 GOFLAGS=-gcflags=all=-dwarf=false
  hyperkube_key=$(key "$modules" "${modules%mod}sum" hyperkube/main.go hyperkube/kubelet.go hyperkube/kubelet_1_33.go -- "$go" "$kubernetes" "$(declare -f compile_hyperkube)")
  programs_key=$(key hyperkube/go.mod hyperkube/go.sum hyperkube/coredns hyperkube/policies -- "$go" "$(declare -f compile_program)")
  pause_key=$(key pause -- "$(declare -f compile_pause)")
  bookworm_key=$(key -- bookworm "$(declare -f make_debian)")
  trixie_key=$(key -- trixie "$(declare -f make_debian offline_base)")
  node_base_key=$(key node -- "$bookworm_key")
  redis_key=$(key backends/redis.Dockerfile -- "$trixie_key")
  postgres_key=$(key backends/postgres.Dockerfile -- "$trixie_key")
  node_key=$(key hyperkube/Dockerfile manifests -- "$hyperkube_key" "$programs_key" "$pause_key" "$node_base_key" "$(declare -f make_node)")
}

# ---- programs ----

# program NAME KEY COMMAND…: makes a program unless it exists. The command gets the file to write as its
# last argument.
program() {
  local name=$1 file=$store/$1-$2
  shift 2
  if [[ ! -x $file ]]; then
    phase "building $name" "$@" "$file.new"
    mv "$file.new" "$file"
  fi
  ln -sfn "$file" "$bin/$name"
}

# Kubernetes first: the other programs are of the same module, so most of their packages are compiled with it.
build_programs() {
  program hyperkube "$hyperkube_key" compile_hyperkube
  local name
  for name in kubectl kubeadm; do ln -sfn "$store/hyperkube-$hyperkube_key" "$bin/$name"; done
  program coredns "$programs_key" compile_program ./coredns
  program policies "$programs_key" compile_program ./policies
  program local-path-provisioner "$programs_key" compile_program github.com/rancher/local-path-provisioner
  program helm "$programs_key" compile_program helm.sh/helm/v3/cmd/helm
}

build_tools() {
  program kind "$(key -- "$(go version)" "$(declare -f compile_module)" "$kind_module")" compile_module "$kind_module"
  program pause "$pause_key" compile_pause
}

# Builds every component into one binary: one compilation, one image under all their names. The version is
# set at link time, because kubeadm refuses to work with components whose version is unknown.
compile_hyperkube() {
  local v=k8s.io/component-base/version c=k8s.io/client-go/pkg/version
  local at="-X $v.gitVersion=$kubernetes -X $v.gitMajor=1 -X $v.gitMinor=${minor#1.} -X $v.gitTreeState=clean"
  # shellcheck disable=SC2164 # The scripts run with `set -e`.
  cd "$here/hyperkube"
  timeout 60m go build -modfile="${modules#*/}" -tags "kubernetes_${minor/./_}" -trimpath -ldflags "-s -w $at ${at//$v/$c}" -o "$1" .
}

# compile_program PACKAGE FILE: builds a program of the module of `hyperkube`.
compile_program() { cd "$here/hyperkube" && timeout 20m go build -trimpath -ldflags '-s -w' -o "$2" "$1"; }

compile_module() {
  local made=$1 to=$2 dir
  dir=$(mktemp -d "$store/.install-XXXXXX")
  GOBIN=$dir timeout 20m go install -trimpath -ldflags '-s -w' "$made"
  mv "$dir"/* "$to" && rmdir "$dir"
}

compile_pause() { gcc -Os -static -s -o "$1" "$here/pause/pause.c"; }

# ---- images ----

# image NAME KEY COMMAND…: makes an image unless it exists. The command gets the name and tag as its last
# argument.
image() {
  local ref=$ours/$1:$2 what="making image $1"
  shift 2
  exists "$ref" || phase "$what" "$@" "$ref"
}

# Sets `base_image`, which scripts/images also uses as the base of the product's own images.
offline_base() {
  trixie_key=$(key -- trixie "$(declare -f make_debian offline_base)")
  base_image=$ours/debian-trixie:$trixie_key
  image debian-trixie "$trixie_key" make_debian trixie ca-certificates
}

build_images() {
  build_backends
  image debian-bookworm "$bookworm_key" make_debian bookworm ""
  image node-base "$node_base_key" make_node_base
}

build_backends() {
  offline_base
  image redis "$redis_key" make_backend redis
  image postgres "$postgres_key" make_backend postgres
  docker tag "$ours/redis:$redis_key" "$redis_image"
  docker tag "$ours/postgres:$postgres_key" "$postgres_image"
}

# make_debian SUITE PACKAGES REF: makes a Debian image without manuals and translations, about as small as
# the official slim images.
make_debian() {
  local options=() dir tar=$work/debian-$1.tar
  for dir in doc man info locale lintian; do options+=(--dpkgopt="path-exclude=/usr/share/$dir/*"); done
  for dir in pkgcache srcpkgcache; do options+=(--aptopt="Dir::Cache::$dir \"\""); done
  timeout 20m mmdebstrap --quiet --variant=minbase ${2:+--include="$2"} "${options[@]}" "$1" "$tar"
  docker import -c 'CMD ["bash"]' "$tar" "$3"
  rm "$tar"
}

make_backend() {
  timeout 20m docker build --network host --build-arg "BASE=$base_image" -t "$2" -f "$here/backends/$1.Dockerfile" "$here/backends"
}

make_node_base() {
  timeout 20m docker build --network host --build-arg "BASE=$ours/debian-bookworm:$bookworm_key" -t "$1" "$here/node"
}

# The node image contains the images of Kubernetes. A containerd inside the image imports them but does not
# unpack them: the file system there is an overlay, and an overlay cannot be the base of another one.
make_node() {
  local ref=$1 r=registry.k8s.io context=$work/context images name node=$ours-node-build
  rm -rf "$context" && mkdir -p "$context"
  for name in hyperkube coredns local-path-provisioner pause; do cp -L "$bin/$name" "$context/"; done
  timeout 20m docker build --network host --build-arg "BASE=$ours/debian-bookworm:$bookworm_key" -t "$r/hyperkube:local" -f "$here/hyperkube/Dockerfile" "$context"
  tar -C "$context" -c pause | docker import -c 'ENTRYPOINT ["/pause"]' - "$r/pause:3.10"
  mapfile -t images < <("$bin/kubeadm" config images list --kubernetes-version "$kubernetes" | grep -v /pause:)
  for name in "${images[@]}"; do
    case $name in
      */coredns:*) printf 'FROM %s\nENTRYPOINT ["/coredns"]\n' "$r/hyperkube:local" | docker build -t "$name" - ;;
      *) docker tag "$r/hyperkube:local" "$name" ;;
    esac
  done
  docker rm -f "$node" > /dev/null 2>&1 || true
  docker run -d --privileged --network none --name "$node" --entrypoint sleep "$ours/node-base:$node_base_key" infinity
  docker cp "$context/hyperkube" "$node:/usr/bin/hyperkube"
  docker cp "$here/manifests" "$node:/kind/"
  docker exec "$node" bash -ec "
    for c in kubelet kubeadm kubectl; do ln -sf hyperkube /usr/bin/\$c; done
    echo $kubernetes > /kind/version
    (containerd -l error > /dev/null 2>&1 &)
    for _ in {1..150}; do ctr version > /dev/null 2>&1 && exit; sleep 0.2; done; exit 1"
  docker save "$r/hyperkube:local" "$r/pause:3.10" "${images[@]}" | timeout 10m docker exec -i "$node" ctr -n k8s.io images import --no-unpack -
  docker exec "$node" pkill containerd
  docker commit -c 'ENTRYPOINT ["/usr/local/bin/entrypoint","/sbin/init"]' "$node" "$ref"
  docker rm -f "$node"
  docker image rm "$r/hyperkube:local" "$r/pause:3.10" "${images[@]}"
  rm -rf "$context"
}
