# `make` alone lists the targets. Small scripts do the work; they also run without make.

# Put your own settings into PrivateRules.mak, as assignments; git ignores it.
-include PrivateRules.mak

## The image
CI_REGISTRY ?= localhost## registry to push to
CI_REPOSITORY ?= storage## account in the registry
IMAGE ?= $(CI_REPOSITORY)/gitrepo## image, without registry and tag
TAG ?= latest## tag of the image
DOCKERFILE ?= deploy/image/Dockerfile## deploy/image/Dockerfile.build builds from source inside the image builder
BINARIES ?=## directory of static binaries for the image; by default `make static` builds them
BUILDER ?=## docker, podman or buildah; by default the first that works
ARCHIVE ?= target/image.tar## file that `make archive` writes

## The drivers on the cluster
DRIVER_NAMESPACE ?= kube-system## namespace of the drivers' DaemonSets
DEBUG ?= false## true: the drivers log at level debug
KUBELET_DIR ?= /var/lib/kubelet## --root-dir of the kubelets
WAIT_TIMEOUT ?= 180s## how long wait, wait-csi and test-results wait

## The CSI driver
CSI_OVERLAY ?= deploy/csi/base## kustomization to deploy; yours, or one of deploy/csi/overlays
FORCE ?= false## true: delete-csi does not check whether the driver is in use

## The FlexVolume driver
OVERLAY ?= deploy/flexvolume/base## kustomization to deploy; yours, or one of deploy/flexvolume/overlays
VENDOR ?= piersharding## first part of the driver's name in manifests
DRIVER ?= gitrepo## second part of the driver's name in manifests
PLUGIN_DIR ?= /usr/libexec/kubernetes/kubelet-plugins/volume/exec## --volume-plugin-dir of the kubelets

## The test on the cluster
KUBE_NAMESPACE ?= default## namespace of the test
TEST ?= tests/mount-test.yaml## manifest of the test; or tests/mount-test-ssh.yaml, with your key in it

## The test on a node of its own
KUBERNETES ?= v1.34.1## version of the kubelet that node-test and node-bench build and bring up
SCENES ?=## scenes that node-test and e2e run; all by default
KEEP ?=## 1: node-test leaves the node up
ROUNDS ?= 5## how often bench measures each contender, and node-bench each kind of volume
GIT_SERVER_IMAGE ?= docker.io/library/python:3.13-bookworm## image with python3 and git, for the git server of e2e

## Benchmarks
CASES ?=## what bench measures: small large refs history read hits commit view subdirectory hundred driver neighbour workspaces; all by default
GIT_SYNC ?=## path of git-sync 4, to compare with it too
OUT ?= target/bench## where bench writes its results and keeps its repositories; needs 10 GB
DIVIDE ?= 1## makes the repositories of bench so many times smaller, to try something quickly

## kubectl
KUBECTL_VERSION ?= 1.34.1## version that kubectl_dependencies installs if kubectl is missing
KUBECTL_DIR ?= /usr/local/bin## where kubectl_dependencies installs it

REFERENCE = $(CI_REGISTRY)/$(IMAGE):$(TAG)

.DEFAULT_GOAL := help
.PHONY: help k8s kubectl_dependencies static image archive push show-csi deploy-csi wait-csi delete-csi logs-csi
.PHONY: show deploy wait delete uninstall logs describe redeploy namespace delete_namespace driver-tests conformance
.PHONY: test test-results test-clean clean cleanall node-test node-bench e2e bench bench-docs soak vm-test

# Exported for the scripts, so that their recipes need not contain the user's text.
export WAIT_TIMEOUT REFERENCE BINARIES DOCKERFILE BUILDER ARCHIVE DRIVER_NAMESPACE DEBUG KUBELET_DIR CSI_OVERLAY FORCE
export OVERLAY VENDOR DRIVER PLUGIN_DIR KUBE_NAMESPACE TEST KUBECTL_VERSION KUBECTL_DIR
export KUBERNETES SCENES KEEP ROUNDS GIT_SERVER_IMAGE OUT

help: ## show this help
	@sh deploy/make/help.sh $(firstword $(MAKEFILE_LIST))

k8s: ## show the connected cluster
	kubectl cluster-info
	kubectl version

kubectl_dependencies: ## install kubectl if it is missing; write KUBE_CONFIG_BASE64, if set, to KUBECONFIG
	@sh deploy/make/kubectl.sh

static: ## build the static binaries, which run on any node
	sh deploy/static.sh

image: ## build the image with docker, podman or buildah
	@sh deploy/image/build.sh

archive: image ## write the image into the file ARCHIVE, for nodes without a registry
	@sh deploy/image/save.sh

push: image ## push the image to CI_REGISTRY
	@sh deploy/image/push.sh

show-csi: ## print the manifests that deploy-csi applies
	@sh deploy/csi/render.sh

deploy-csi: ## run the CSI driver on every node
	@sh deploy/make/apply.sh deploy/csi/render.sh

wait-csi: ## wait until the CSI driver runs on every node, and its controller if the overlay has one
	@sh deploy/make/wait.sh deploy/csi/render.sh app.kubernetes.io/name=gitrepo-csi deploy-csi

delete-csi: ## delete the CSI driver; refused while it is in use
	@sh deploy/csi/delete.sh

logs-csi: ## logs of the CSI driver
	@sh deploy/make/logs.sh deploy/csi/render.sh app.kubernetes.io/name=gitrepo-csi

show: ## print the manifests that deploy applies
	@sh deploy/flexvolume/render.sh

deploy: ## install the FlexVolume driver on every node
	@sh deploy/make/apply.sh deploy/flexvolume/render.sh

wait: ## wait until the FlexVolume driver is installed on every node
	@sh deploy/make/wait.sh deploy/flexvolume/render.sh app=k8s-gitrepo-vol deploy

delete: ## delete the installing DaemonSet; the FlexVolume driver stays on the nodes for existing volumes
	sh deploy/flexvolume/render.sh | kubectl delete --ignore-not-found --wait -f -

uninstall: ## delete the DaemonSet and remove the FlexVolume driver from the nodes; refused by nodes with volumes
	@sh deploy/flexvolume/uninstall.sh

logs: ## logs of the installing pods
	@sh deploy/make/logs.sh deploy/flexvolume/render.sh app=k8s-gitrepo-vol

describe: ## describe the installing pods
	kubectl -n "$$(sh deploy/make/namespace.sh deploy/flexvolume/render.sh)" describe pods -l app=k8s-gitrepo-vol

redeploy: cleanall push deploy wait ## delete, then build, push and deploy again

namespace: ## create KUBE_NAMESPACE if it is missing
	kubectl get namespace $(KUBE_NAMESPACE) || kubectl create namespace $(KUBE_NAMESPACE)

delete_namespace: ## delete KUBE_NAMESPACE
	@sh deploy/make/delete-namespace.sh

driver-tests: ## run the FlexVolume driver without a cluster: init, mount, check, unmount (as root)
	sh tests/driver-tests.sh

conformance: ## run csi-sanity against the CSI driver, with and without its controller (as root)
	sh tests/conformance.sh

node-test: ## bring up a node here, run the scenes of tests/node on it, remove it (as root, on Debian)
	@bash tests/node/node-test.sh

node-bench: ## bring up a node here and print how long volumes and pods take on it (as root, on Debian)
	@bash tests/node/node-bench.sh

bench: ## compare with git, git-sync, the bash driver and the in-tree volume: time, memory, bytes (as root)
	cargo build --release --locked -p gitrepo-cli -p gitrepo-csi
	cargo bench --locked -p gitrepo-tests --bench rivals -- --rounds "$(ROUNDS)" --cases "$(CASES)" \
	    $(if $(GIT_SYNC),--git-sync "$(abspath $(GIT_SYNC))") --divide "$(DIVIDE)" --out "$(abspath $(OUT))"

bench-docs: ## put the results of the last bench into README.md and docs/
	@sh tests/bench-docs.sh

soak: ## run the tests of kills, failing disks, power failures and evictions for long (as root)
	sh tests/soak.sh

vm-test: ## run the tests of project quotas in a virtual machine with Debian's kernel (root on Debian; installs qemu)
	sh tests/vm/run.sh

e2e: ## run the scenes of tests/node on the cluster of KUBECONFIG, with a git server there
	@bash tests/node/e2e.sh

test: namespace ## deploy the test: six pods that serve a repository's README
	kubectl -n $(KUBE_NAMESPACE) apply -f $(TEST)

test-results: ## show the first lines that the test serves
	@sh deploy/make/test-results.sh

test-clean: ## delete the test
	kubectl -n $(KUBE_NAMESPACE) delete --ignore-not-found -f $(TEST)

# Also cleans this machine if there is no cluster.
clean: ## delete the DaemonSet and the files built for deploying
	-@$(MAKE) --no-print-directory delete
	rm -rf target/deploy

cleanall: test-clean clean ## delete the test and the DaemonSet
