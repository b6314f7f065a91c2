#!/bin/sh
# Start a dataset of your own: data/create_new_dataset.sh <name> copies data/template to data/<name>, with a preset in conf/data.
set -eu

usage="usage: data/create_new_dataset.sh <name>   (letters, digits, '.', '_' and '-', starting with a letter or digit)"
[ $# -eq 1 ] || { echo "$usage" >&2; exit 2; }
name=$1
case $name in
  "" | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) echo "'$name' cannot be a dataset's name. $usage" >&2; exit 2 ;;
esac

here=$(cd "$(dirname "$0")" && pwd)
preset=$here/../conf/data/$name.yaml
if [ -e "$here/$name" ] || [ -e "$preset" ]; then
  echo "data/$name or conf/data/$name.yaml is already there; nothing was changed. Choose another name." >&2
  exit 2
fi

mkdir "$here/$name"
cp "$here/template/dataset.py" "$here/$name/dataset.py"
printf '# Selects the dataset of data/%s.\nname: %s\nfolder: data\nval_tokens: null\n' "$name" "$name" > "$preset"
echo "created data/$name/dataset.py and conf/data/$name.yaml. Next:"
echo "  1. edit documents() in data/$name/dataset.py"
echo "  2. python data/prepare.py dataset=$name"
echo "  3. python train.py data=$name"
