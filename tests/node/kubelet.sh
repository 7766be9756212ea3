#!/bin/bash
# Prints the configuration of the node's kubelet.
set -eu
. "$(dirname "$0")/settings.sh"

pki=$NODE_DIR/pki
cat <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $NODE_IP
port: 10250
readOnlyPort: 0
healthzBindAddress: 127.0.0.1
authentication:
  anonymous: { enabled: false }
  webhook: { enabled: false }
  x509: { clientCAFile: $pki/ca.crt }
authorization: { mode: AlwaysAllow }
tlsCertFile: $pki/kubelet.crt
tlsPrivateKeyFile: $pki/kubelet.key
cgroupDriver: cgroupfs
failSwapOn: false
volumePluginDir: $PLUGIN_DIR
resolvConf: ""
clusterDNS: [$NODE_IP]
clusterDomain: cluster.local
imageGCHighThresholdPercent: 100
# The machine's disk may be nearly full.
evictionHard: { memory.available: 100Mi, nodefs.available: "1%" }
END
# The in-tree gitRepo volume, which the bench compares with the drivers: off since 1.33.
minor=${KUBERNETES#v1.}
minor=${minor%%.*}
if [ "$minor" -ge 33 ] && [ "$minor" -lt 36 ]; then
    printf 'featureGates: { GitRepoVolumeDriver: true }\n'
fi
