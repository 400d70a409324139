# What steps cost in a guest, by its clock. Usage: sh -s ROUNDS; prints `round EMPTY FILES COMMANDS LOOP` in seconds for each.
set -eu
dir=$(mktemp -d)
cd "$dir"
{
    echo 'stages: {bench: ['
    for i in $(seq 50); do echo "{files: [{path: $dir/out/$i, content: 'line $i of a file that is there already'}]},"; done
    echo ']}'
} > files.yaml
{
    echo 'stages: {bench: ['
    for i in $(seq 50); do echo "{commands: ['true']},"; done
    echo ']}'
} > commands.yaml
echo 'stages: {bench: []}' > empty.yaml
run() { kairn stage run bench --override-cloud-init-paths "$dir/$1.yaml" > /dev/null 2>&1; }
shells() { for i in $(seq 50); do sh -c true; done; }
timed() {
    begin=$(date +%s%N)
    "$@"
    end=$(date +%s%N)
    printf ' %d.%09d' $(((end - begin) / 1000000000)) $(((end - begin) % 1000000000))
}
# The files are written, and programs are in memory.
run files
run commands
shells
for round in $(seq "$1"); do
    printf round
    timed run empty
    timed run files
    timed run commands
    timed shells
    echo
done
rm -rf "$dir"
