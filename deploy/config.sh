#!/usr/bin/env bash
# Dask's configuration (dask.yaml) for certificates in another folder than a container's; any name of a folder will do.
#   config.sh FOLDER-OF-tls.sh >dask.yaml
set -euo pipefail

folder=${1:?usage: config.sh FOLDER}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
config=$(<"$here/dask.yaml")
quoted=${folder//\'/\'\'} # as YAML has it between single quotes
printf '%s\n' "${config//\/etc\/popcat-tls/"$quoted"}"
