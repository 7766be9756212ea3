#!/bin/bash
# Creates the git servers' repositories, the SSH server's keys, and the user git if missing.
set -eu
. "$(dirname "$0")/settings.sh"

git_dir=$NODE_DIR/git
python3 -B "$here/servers/repositories.py" "$git_dir"

if ! id git >/dev/null 2>&1; then
    useradd --system --no-create-home --home-dir "$git_dir" --shell /usr/bin/git-shell git
    # No password, but not locked: sshd refuses locked users.
    usermod --password '*' git
    touch "$NODE_RUN/made-user"
fi
chown -R git: "$git_dir"

mkdir -p "$NODE_DIR/ssh"
if [ ! -e /run/sshd ]; then
    mkdir -m 0755 /run/sshd
fi
cd "$NODE_DIR/ssh"
for key in host other-host user other-user; do
    [ -e $key ] || ssh-keygen -q -t ed25519 -N '' -C "$key" -f $key
done
cp user.pub authorized_keys
chmod 755 .
chmod 644 authorized_keys
cat >sshd_config <<END
ListenAddress $NODE_IP
Port 22
HostKey $PWD/host
AuthorizedKeysFile $PWD/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
PidFile none
AllowUsers git
MaxStartups 100
END
