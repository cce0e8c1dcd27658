# The minor version of Kubernetes that a new cluster gets: KUBERNETES, or 1.34. The release of it that is built from
# Go modules where no registry can be reached (offline.sh), and the node image of the same minor version that kind's
# release notes name (ordinary.sh).
# shellcheck shell=bash
# shellcheck disable=SC2034 # Used by the scripts that source this file.

minor=${KUBERNETES:-1.34}
case $minor in
  1.33)
    kubernetes=v1.33.13
    ordinary_node=kindest/node:v1.33.4@sha256:25a6018e48dfcaee478f4a59af81157a437f15e6e140bf103f85a2e7cd0cbbf2
    ;;
  1.34) # the last minor version that runs on cgroup v1 without further settings
    kubernetes=v1.34.4
    ordinary_node=kindest/node:v1.34.0@sha256:7416a61b42b1662ca6ca89f02028ac133a309a2a30ba309614e8ec94d976dc5a
    ;;
  *) fail "KUBERNETES is 1.33 or 1.34, not $minor" ;;
esac

# The module file of hyperkube for this minor version. The sums are in the file beside it that ends with .sum.
modules=hyperkube/go-$minor.mod
[[ $minor != 1.34 ]] || modules=hyperkube/go.mod
