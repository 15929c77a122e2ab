#!/usr/bin/env bash
# The NBD server with TLS: who gets in and who does not.
. "$(dirname "$0")/lib.sh"
for tool in certtool psktool nbdinfo nbdcopy qemu-img; do
    command -v $tool >/dev/null || { skip "nbd tls" "$tool is not installed"; finish; }
done
nbdinfo --can connect "nbds+unix:///?socket=/nowhere" 2>&1 | grep -q 'not compiled' &&
    { skip "nbd tls" "nbdinfo has no TLS"; finish; }

# ---- certificates: two authorities; a server of the first; a client of each ----
authority() { # NAME
    mkdir -p "$TMP/$1"
    printf 'cn = %s\nca\ncert_signing_key\nexpiration_days = 2\n' "$1" >"$TMP/ca.cfg"
    certtool --generate-privkey --key-type=ecdsa --outfile "$TMP/$1/ca-key.pem"
    certtool --generate-self-signed --load-privkey "$TMP/$1/ca-key.pem" --template "$TMP/ca.cfg" \
        --outfile "$TMP/$1/ca-cert.pem"
}
certificate() { # AUTHORITY server|client
    printf 'cn = localhost\ndns_name = localhost\nip_address = 127.0.0.1\n%s\nsigning_key\nexpiration_days = 2\n' \
        "tls_www_$2" >"$TMP/$2.cfg"
    certtool --generate-privkey --key-type=ecdsa --outfile "$TMP/$1/$2-key.pem"
    certtool --generate-certificate --load-privkey "$TMP/$1/$2-key.pem" --template "$TMP/$2.cfg" \
        --load-ca-certificate "$TMP/$1/ca-cert.pem" --load-ca-privkey "$TMP/$1/ca-key.pem" \
        --outfile "$TMP/$1/$2-cert.pem"
}
{
    authority good
    authority other
    certificate good server
    certificate good client
    certificate other client
    # A client that trusts the server but is of the other authority, and one with no certificate.
    mkdir "$TMP/stranger" "$TMP/bare"
    cp "$TMP/good/ca-cert.pem" "$TMP/other/client-key.pem" "$TMP/other/client-cert.pem" "$TMP/stranger"
    cp "$TMP/good/ca-cert.pem" "$TMP/bare"
    psktool -u alice -p "$TMP/keys.psk"
    psktool -u bob -p "$TMP/keys.psk"
    printf 'alice:%064d\n' 1 >"$TMP/wrong.psk"
} >"$TMP/certtool.log" 2>&1 || { fail "making certificates" "$(tail -n 3 "$TMP/certtool.log")"; finish; }

head -c 3000000 /dev/urandom >"$TMP/src"
truncate -s 4M "$TMP/src"

serve() { # OPTIONS...: on TCP, so that names in certificates can be checked
    start server "$ASHLAR" serve nbd mem:4M --listen 127.0.0.1:0 "$@"
    wait_for grep -q '^listening on' "$TMP/server.out" || cat "$TMP/server.err"
    where=$(sed -n 's|^listening on nbd://||p' "$TMP/server.out")
}
tls() { echo "nbds://$where?tls-certificates=$TMP/$1"; }
psk() { echo "nbds://$1@$where?tls-psk-file=$TMP/$2"; }
refused() { # WHAT PATTERN URI: nbdinfo must fail and say so
    local out
    if out=$(nbdinfo "$3" 2>&1); then
        fail "$1" "it got in"
    elif grep -qiE "$2" <<<"$out"; then
        pass "$1"
    else
        fail "$1" "$out"
    fi
}
ends_well() {
    if stop server; then pass "$1"; else fail "$1" "exit $?: $(tail -n 3 "$TMP/server.err")"; fi
}
x509=(--tls-cert "$TMP/good/server-cert.pem" --tls-key "$TMP/good/server-key.pem")

# ---- certificates, required ----
serve "${x509[@]}" --tls-ca "$TMP/good/ca-cert.pem" --require-tls
check "the right certificate" sh -c "nbdinfo '$(tls good)' | grep -q 'with TLS'"
check "nbdcopy in" nbdcopy "$TMP/src" "$(tls good)"
check "nbdcopy out" nbdcopy --connections=2 "$(tls good)" "$TMP/back"
check "the same bytes" cmp "$TMP/src" "$TMP/back"
check "requests of 1 MiB" nbdcopy --request-size=1048576 --requests=16 "$(tls good)" "$TMP/back2"
check "the same bytes again" cmp "$TMP/src" "$TMP/back2"
check "qemu-img" qemu-img compare --object "tls-creds-x509,id=t,endpoint=client,dir=$TMP/good" \
    --image-opts "driver=nbd,host=127.0.0.1,port=${where##*:},tls-creds=t" "driver=file,filename=$TMP/src"
refused "no TLS" 'TLS|POLICY|policy' "nbd://$where"
refused "a client of another authority" 'tls|certificate|closed|reset|pull' "$(tls stranger)"
refused "a client without a certificate" 'tls|certificate|closed|reset|pull' "$(tls bare)"
refused "a client that trusts another authority" 'certificate|issuer|trust|verif' "$(tls other)"
refused "an export that is none" 'export|unknown' "$(tls good | sed "s|$where|$where/none|")"
check "the right one still gets in" nbdinfo "$(tls good)"
ends_well "SIGTERM"

# ---- certificates, offered: no authority, so any client; and plain ones ----
serve "${x509[@]}"
check "offered: with TLS" sh -c "nbdinfo '$(tls bare)' | grep -q 'with TLS'"
check "offered: without" sh -c "nbdinfo 'nbd://$where' | grep -q 'without TLS'"
ends_well "SIGTERM"

# ---- keys ----
serve --tls-psk "$TMP/keys.psk" --require-tls
check "the right key" sh -c "nbdinfo '$(psk alice keys.psk)' | grep -q 'with TLS'"
check "another user's" sh -c "nbdinfo '$(psk bob keys.psk)' | grep -q 'with TLS'"
check "nbdcopy" nbdcopy "$TMP/src" "$(psk alice keys.psk)"
check "nbdcopy back" nbdcopy "$(psk bob keys.psk)" "$TMP/back3"
check "the same bytes" cmp "$TMP/src" "$TMP/back3"
refused "the wrong key" 'tls|handshake|closed|reset|pull|decryption|record' "$(psk alice wrong.psk)"
refused "no TLS" 'TLS|policy' "nbd://$where"
ends_well "SIGTERM"

# ---- no TLS here ----
serve
refused "TLS is asked for where there is none" 'TLS|closed' "$(tls good)"
ends_well "SIGTERM"

# ---- words ----
check_fails "a certificate without its key" 2 'tls-key' "$ASHLAR" serve nbd mem:1M --tls-cert "$TMP/good/server-cert.pem"
check_fails "a file that is not there" 1 'nothing.pem' "$ASHLAR" serve nbd mem:1M --tls-cert "$TMP/nothing.pem" --tls-key "$TMP/nothing.pem"
check_fails "a file that is no certificate" 1 'src' "$ASHLAR" serve nbd mem:1M --tls-cert "$TMP/src" --tls-key "$TMP/src"
check_fails "certificates and keys" 2 'not both' "$ASHLAR" serve nbd mem:1M "${x509[@]}" --tls-psk "$TMP/keys.psk"
check_fails "keys that are not there" 1 'nokeys' "$ASHLAR" serve nbd mem:1M --tls-psk "$TMP/nokeys"
finish
