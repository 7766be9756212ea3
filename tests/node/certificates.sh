#!/bin/bash
# Creates the node's certificate authority, the certificates of its programs and the git server, and kubeconfigs.
set -eu
. "$(dirname "$0")/settings.sh"

pki=$NODE_DIR/pki
[ ! -e "$pki/complete" ] || exit 0
rm -rf "$pki"
mkdir -p "$pki"
cd "$pki"

# certificate <name> <subject> <usage> [<names and addresses>]
certificate() {
    openssl req -newkey rsa:2048 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    {
        printf 'keyUsage = digitalSignature, keyEncipherment\nextendedKeyUsage = %s\n' "$3"
        [ -z "${4:-}" ] || printf 'subjectAltName = %s\n' "$4"
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile "$1.ext" -out "$1.crt" \
        2>/dev/null
}

# kubeconfig <user> <file>
kubeconfig() {
    cat >"$2" <<END
apiVersion: v1
kind: Config
clusters:
  - name: node
    cluster: { server: "https://127.0.0.1:$API_PORT", certificate-authority: "$pki/ca.crt" }
users:
  - name: $1
    user: { client-certificate: "$pki/$1.crt", client-key: "$pki/$1.key" }
contexts:
  - name: node
    context: { cluster: node, user: $1 }
current-context: node
END
}

openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=gitrepo-node -keyout ca.key -out ca.crt 2>/dev/null
certificate apiserver /CN=kube-apiserver serverAuth \
    "IP:127.0.0.1,IP:$NODE_IP,IP:$SERVICE_IP,DNS:localhost,DNS:kubernetes.default.svc"
certificate kubelet "/O=system:masters/CN=system:node:$NODE_NAME" serverAuth,clientAuth "IP:$NODE_IP,DNS:$NODE_NAME"
certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
certificate admin /O=system:masters/CN=admin clientAuth
certificate controller-manager /O=system:masters/CN=system:kube-controller-manager clientAuth
certificate scheduler /O=system:masters/CN=system:kube-scheduler clientAuth
# The names that the examples use. The address is missing on purpose: one scene tests a certificate with a wrong name.
certificate git /CN=git.example.com serverAuth "DNS:git.example.com,DNS:github.com"
openssl genrsa -out service-accounts.key 2048 2>/dev/null
openssl rsa -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null
kubeconfig admin "$KUBECONFIG_NODE"
for user in kubelet controller-manager scheduler; do
    kubeconfig $user $user.conf
done
touch complete
