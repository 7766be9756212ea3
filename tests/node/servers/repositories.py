"""repositories.py <directory>: creates the git servers' bare repositories; existing ones stay."""

import os
import random
import shutil
import subprocess
import sys
import tempfile

# Name: files, directories, bytes of each file, whether they are random (and so do not compress).
REPOSITORIES = {
    "small": (10, 2, 300, False),
    "medium": (2000, 40, 2000, False),
    "large": (10000, 200, 2000, False),
    "big": (64, 8, 1_000_000, True),
    "team/site": (10, 2, 300, False),
    "team/private": (10, 2, 300, False),
    "team/other": (10, 2, 300, False),
    # Named by the project's own examples.
    "piersharding/k8s-flexvol-gitrepo": (10, 2, 300, False),
}
WORDS = [f"word{number} " for number in range(500)]
PERSON = {
    "GIT_AUTHOR_NAME": "node",
    "GIT_AUTHOR_EMAIL": "node@example.com",
    "GIT_COMMITTER_NAME": "node",
    "GIT_COMMITTER_EMAIL": "node@example.com",
}


def git(directory, *words, **as_whom):
    command = ["git", "-C", directory, *words]
    done = subprocess.run(command, env=os.environ | PERSON, capture_output=True, text=True, **as_whom)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout.strip()


def write_tree(work, files, directories, size, incompressible):
    chance = random.Random(files)
    with open(f"{work}/README.md", "w") as readme:
        readme.write("# node\nA test repository of the node.\n")
    os.symlink("README.md", f"{work}/link")
    # Git stores no set-user-id bit; a scene that needs one sets it itself.
    for number in range(files):
        directory = f"{work}/d{number % directories}"
        os.makedirs(directory, exist_ok=True)
        if incompressible:
            content = chance.randbytes(size)
        else:
            content = ("".join(chance.choices(WORDS, k=size // 7)) + f"\n{number}\n").encode()
        with open(f"{directory}/f{number}.txt", "wb") as file:
            file.write(content)


def make(root, name, shape):
    bare = f"{root}/{name}.git"
    if os.path.exists(bare):
        return
    work = tempfile.mkdtemp()
    try:
        write_tree(work, *shape)
        publish(work, bare)
        git(bare, "tag", "v1")
        git(bare, "tag", "v1.2")
        git(bare, "branch", "master")
    finally:
        shutil.rmtree(work)


def make_documented(root):
    """The repositories that docs/volumes.md names, with what its kinds of volumes need."""
    if os.path.exists(f"{root}/public/app.git"):
        return
    site, app = tempfile.mkdtemp(), tempfile.mkdtemp()
    try:
        write_tree(site, 10, 2, 300, False)
        os.makedirs(f"{site}/docs")
        for path, content in {
            "docs/index.md": "# Index\n",
            "run.bat": "exit\n",
            ".gitattributes": "*.bat text eol=crlf\n",
        }.items():
            with open(f"{site}/{path}", "w", newline="") as file:
                file.write(content)
        commit = publish(site, f"{root}/public/site.git")
        with open(f"{app}/.gitmodules", "w") as modules:
            modules.write('[submodule "theme"]\n\tpath = theme\n\turl = ../site.git\n')
        # A submodule whose directory is missing would be taken for a deleted one.
        os.makedirs(f"{app}/theme")
        git(app, "init", "--quiet", "--initial-branch=main")
        git(app, "update-index", "--add", "--cacheinfo", f"160000,{commit},theme")
        publish(app, f"{root}/public/app.git")
    finally:
        shutil.rmtree(site)
        shutil.rmtree(app)


def publish(work, bare):
    """Commits a working tree to a new bare repository, and returns the commit."""
    git(work, "init", "--quiet", "--initial-branch=main")
    git(work, "add", ".")
    git(work, "commit", "--quiet", "--message=one")
    os.makedirs(os.path.dirname(bare), exist_ok=True)
    git(work, "clone", "--quiet", "--bare", ".", bare)
    git(bare, "config", "uploadpack.allowFilter", "true")
    return git(work, "rev-parse", "HEAD")


def advance(root, name):
    """One more commit on main, with a file NEW."""
    # Git trusts only repositories of its own user.
    owner = os.stat(root)
    user = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    work = tempfile.mkdtemp()
    try:
        os.chown(work, owner.st_uid, owner.st_gid)
        git(work, "clone", "--quiet", "--branch", "main", f"{root}/{name}.git", ".", **user)
        with open(f"{work}/NEW", "a") as file:
            file.write("new\n")
        git(work, "add", "--all", **user)
        git(work, "commit", "--quiet", "--message=more", **user)
        git(work, "push", "--quiet", "origin", "main", **user)
    finally:
        shutil.rmtree(work)


def make_all(root):
    os.makedirs(root, exist_ok=True)
    for name, shape in REPOSITORIES.items():
        make(root, name, shape)
    make_documented(root)


if __name__ == "__main__":
    make_all(sys.argv[1])
