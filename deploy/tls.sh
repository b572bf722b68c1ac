#!/usr/bin/env bash
# Certificates for one cluster: a CA of its own, and one certificate that scheduler, workers and client all show.
# Whoever holds node.key may use the cluster, and Dask runs any code that a client sends: keep the folder private.
# They are valid for DAYS (30), and made anew when called in their last day: then end the cluster and start it again.
#   tls.sh FOLDER [DAYS]
set -euo pipefail

folder=${1:?usage: tls.sh FOLDER [DAYS]}
days=${2:-30}
umask 077
mkdir -p "$folder"
if [[ -s $folder/node.pem ]] && openssl x509 -in "$folder/node.pem" -checkend 86400 -noout >/dev/null; then
  echo "$folder holds certificates that are still valid, until $(openssl x509 -in "$folder/node.pem" -enddate -noout | cut -d= -f2)"
  exit 0
fi

new_key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

work=$(mktemp -d "$folder/.new.XXXXXX")
trap 'rm -rf "$work"' EXIT
new_key "$work/ca.key"
openssl req -x509 -new -sha256 -key "$work/ca.key" -days "$days" -subj "/CN=popcat-ca" -out "$work/ca.pem"
new_key "$work/node.key"
openssl req -new -sha256 -key "$work/node.key" -subj "/CN=popcat" -out "$work/node.csr"
printf 'extendedKeyUsage=serverAuth,clientAuth\nbasicConstraints=critical,CA:FALSE\n' >"$work/node.ext"
openssl x509 -req -sha256 -in "$work/node.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -CAcreateserial \
  -days "$days" -extfile "$work/node.ext" -out "$work/node.pem"
# The CA's key is not kept: no further certificate can be made.
mv "$work/ca.pem" "$work/node.key" "$work/node.pem" "$folder/"
echo "ca.pem, node.pem, node.key in $folder, valid for $days days: a cluster that lives longer needs new ones"
