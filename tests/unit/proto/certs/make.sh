#!/bin/sh
# Makes the keys of test_tls.c anew: two authorities, and what each has signed. They guard nothing.
set -e
cd "$(dirname "$0")"
days=36500
authority() { # name
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days $days \
        -keyout "$1.key" -out "$1.pem" -subj "/CN=heddle test $1" 2>/dev/null
}
leaf() { # name authority subjectAltName
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -keyout "$1.key" -out "$1.csr" -subj "/CN=heddle test $1" 2>/dev/null
    printf 'subjectAltName=%s\n' "$3" > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days $days \
        -extfile "$1.ext" -out "$1.pem" 2>/dev/null
    rm -f "$1.csr" "$1.ext"
}
authority ca
authority stranger-ca
leaf scheduler ca DNS:scheduler.heddle.test,IP:127.0.0.1
leaf worker ca DNS:worker.heddle.test
leaf stranger stranger-ca DNS:worker.heddle.test,IP:127.0.0.1
rm -f ./*.srl ca.key stranger-ca.key stranger-ca.pem
