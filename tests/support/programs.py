"""Programs from Debian, started as a user would: preflight's word of each, and what `migrate` then does with it.

    programs.py --testbed NAME [--into docs/programs.md] [PROGRAM...]

NAME is a running testbed, which is used for nothing else; --install gives its hosts the programs (three minutes). A
program that the preflight refuses is moved all the same (`accept`), to see whether it was right. Not a test: it takes
a quarter of an hour. With PROGRAMs, only those rows are made anew.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed import Host, Testbed, prepare

SHORT_LIVED = "short-lived"  # that check says itself that it may be rolled back
PROFILE = "task: {pidfile: /run/p.pid}\ndestination: {ssh: dst}\ntimeouts: {restore: 20, dump: 20}\n"
# What the preflight says helps: locks are dumped, and files follow when the task is frozen.
FILES = "/srv/etcd2 /srv/ldap2 /srv/tor2 /srv/rd2 /run/crond.pid /tmp/hsperfdata_root"
BRINGS = "criu: {file_locks: true}\nhooks: {after_dump: [{run: 'rsync -a --relative --ignore-missing-args "
BRINGS += f"{FILES} dst:/'}}]}}\n"
LEFT = "/srv/* /dev/shm/* /var/lib/criu-lazy/*"
PACKAGES = (
    "nginx memcached postgresql mariadb-server sqlite3 default-jdk-headless nodejs ruby php-cli lua5.4 tmux "
    "vim-tiny screen rsyslog cron dnsmasq prometheus-node-exporter rsync haproxy lighttpd apache2 mosquitto "
    "beanstalkd stunnel4 unbound chrony ffmpeg socat stress-ng procps bsdutils php-fpm gunicorn bind9 varnish git "
    "slapd etcd-server erlang-base vsftpd transmission-daemon caddy syncthing exim4-daemon-light uwsgi-core "
    "uwsgi-plugin-python3 dovecot-imapd tor"
)
LOOP = "printf 'public class Loop { public static void main(String[] a) throws Exception { "
LOOP += "while (true) Thread.sleep(50); } }' >/srv/Loop.java"
DAEMON = "setsid {run} </dev/null >>/var/log/p.log 2>&1 & echo $! >/run/p.pid"


@dataclass(frozen=True)
class Program:
    """`run` is started in a session of its own, its output in a file; `prepare` is run on both hosts before."""

    name: str
    run: str
    prepare: str = "true"
    start: str = DAEMON
    profile: str = ""


PROGRAMS = [
    Program("nginx", "nginx -g 'daemon off;'"),
    Program("nginx, as a daemon", "nginx", start="nginx; sleep 1; cat /run/nginx.pid >/run/p.pid"),
    Program("nginx, all as root", "nginx -c /srv/n.conf", prepare="printf 'user root;\\ndaemon off;\\nworker_processes "
        "2;\\nevents {}\\nhttp { server { listen 8087; } }\\n' >/srv/n.conf"),
    Program("Redis", "redis-server --save '' --port 6390"),
    Program("memcached", "memcached -u nobody -p 11311"),
    Program("memcached, as root", "memcached -u root -p 11312"),
    Program("PostgreSQL",
        "setpriv --reuid postgres --regid postgres --clear-groups /usr/lib/postgresql/17/bin/postgres -D /srv/pg",
        prepare="mkdir -p /srv/pg; chown postgres /srv/pg; chmod 700 /srv/pg; "
        "su postgres -s /bin/sh -c '/usr/lib/postgresql/17/bin/initdb -D /srv/pg' >/dev/null"),
    Program("MariaDB", "mariadbd --user=root --datadir=/srv/maria --socket=/run/maria.sock --port=3399",
        prepare="mkdir -p /srv/maria; mariadb-install-db --user=root --datadir=/srv/maria >/dev/null 2>&1; true"),
    Program("SQLite shell", "sh -c 'sleep 100000 | sqlite3 /srv/s.db'", prepare=": >/srv/s.db"),
    Program("JVM", "java -Xmx64m /srv/Loop.java", prepare=LOOP),
    Program("Node.js", "node -e 'require(\"http\").createServer((q,r)=>r.end(\"x\")).listen(8088)'"),
    Program("Python", "python3 -m http.server 8089"),
    Program("Perl", "perl -e 'while (1) { select undef, undef, undef, 0.1 }'"),
    Program("Ruby", "ruby -e 'loop { sleep 0.1 }'"),
    Program("PHP", "php -S 0.0.0.0:8090 -t /srv"),
    Program("Lua", "lua5.4 -e 'while true do os.execute(\"sleep 1\") end'"),
    Program("tmux with a shell", "tmux", start="tmux new-session -d; sleep 1; pgrep -x 'tmux: server' >/run/p.pid",
        prepare="mkdir -p -m 700 /tmp/tmux-0"),
    Program("tmux with bash", "tmux", start="tmux new-session -d bash; sleep 1; pgrep -x 'tmux: server' >/run/p.pid",
        prepare="mkdir -p -m 700 /tmp/tmux-0"),
    Program("PHP without JIT", "php -d opcache.jit=off -d opcache.jit_buffer_size=0 -S 0.0.0.0:8096 -t /srv"),
    Program("vim in tmux", "tmux", start="tmux new-session -d 'vim.tiny /srv/v.txt'; sleep 1; "
        "pgrep -x 'tmux: server' >/run/p.pid", prepare=": >/srv/v.txt; mkdir -p -m 700 /tmp/tmux-0"),
    Program("screen with a shell", "screen", start="screen -dmS p; sleep 1; pgrep -xo screen >/run/p.pid"),
    Program("sshd", "/usr/sbin/sshd -D -p 2222"),
    Program("sshd session", "", start="setsid ssh -tt src 'echo $$ >/run/p.pid; exec sh' </dev/null >/dev/null 2>&1 & "
        "sleep 2"),
    Program("ssh, a command without a terminal", "",
        start="setsid ssh src 'echo $$ >/run/p.pid; while :; do echo; sleep 0.1; done' </dev/null >/dev/null 2>&1 & "
        "sleep 2"),
    Program("rsyslog", "rsyslogd -n -iNONE -f /srv/r.conf", prepare="printf 'module(load=\"imuxsock\" "
        "SysSock.Name=\"/run/r.sock\")\\n*.* /var/log/r\\n' >/srv/r.conf"),
    Program("cron", "cron -f"),
    Program("dnsmasq", "dnsmasq -k -p 5353 --conf-file=/dev/null --no-resolv"),
    Program("dnsmasq, as root", "dnsmasq -k -p 5354 --conf-file=/dev/null --no-resolv -u root"),
    Program("Go: Prometheus' node exporter", "prometheus-node-exporter --web.listen-address=:9199"),
    Program("rsync, as a daemon", "rsync --daemon --no-detach --config=/srv/rs.conf --port 8730",
        prepare="printf 'use chroot = no\\n[s]\\npath = /srv\\n' >/srv/rs.conf"),
    Program("haproxy", "haproxy -W -db -f /srv/h.cfg", prepare="printf 'defaults\\n mode tcp\\n timeout connect 5s\\n "
        "timeout client 5s\\n timeout server 5s\\nlisten a\\n bind :8091\\n server s 127.0.0.1:1\\n' >/srv/h.cfg"),
    Program("lighttpd", "lighttpd -D -f /srv/l.conf",
        prepare="printf 'server.document-root=\"/srv\"\\nserver.port=8092\\n' "
        ">/srv/l.conf"),
    Program("Apache", "apache2 -X -d /etc/apache2 -c 'Listen 8093' -c 'PidFile /run/a.pid'",
        prepare=". /etc/apache2/envvars; mkdir -p $APACHE_RUN_DIR $APACHE_LOCK_DIR $APACHE_LOG_DIR",
        start=". /etc/apache2/envvars; " + DAEMON),
    Program("mosquitto", "mosquitto -p 1899"),
    Program("mosquitto, as root", "mosquitto -c /srv/mq.conf",
        prepare="printf 'user root\\nlistener 1900\\nallow_anonymous true\\n' >/srv/mq.conf"),
    Program("beanstalkd", "beanstalkd -p 11399"),
    Program("stunnel", "stunnel4 /srv/st.conf", prepare="printf 'foreground=yes\\n[a]\\nclient=yes\\naccept=8094\\n"
        "connect=127.0.0.1:1\\n' >/srv/st.conf"),
    Program("unbound", "unbound -d -c /srv/u.conf",
        prepare="printf 'server:\\n port: 5399\\n chroot: \"\"\\n username: "
        "\"\"\\n pidfile: \"\"\\n use-syslog: no\\n' >/srv/u.conf"),
    Program("chrony", "chronyd -d -x -f /dev/null -u root"),
    Program("ffmpeg", "ffmpeg -nostdin -loglevel error -re -f lavfi -i testsrc -f null -"),
    Program("socat", "socat TCP-LISTEN:8095,fork,reuseaddr EXEC:cat"),
    Program("stress-ng", "stress-ng --vm 1 --vm-bytes 32M --vm-keep -q"),
    Program("gcc at work", "sh -c 'while :; do gcc -O2 -o /tmp/x.out /srv/x.c; done'",
        prepare="printf 'int main(void) { return 0; }' >/srv/x.c"),
    Program("tail -F", "tail -F /var/log/t.log", prepare=": >>/var/log/t.log"),
    Program("a pipeline, as one tree", "sh -c 'while :; do date; sleep 0.1; done | cat >>/var/log/t.log'"),
    Program("watch, from a terminal", "watch",
        start="setsid script -qfc 'TERM=vt100 watch -n 1 date' /dev/null </dev/null >/dev/null 2>&1 & sleep 2; "
        "pgrep -xo watch >/run/p.pid"),
    Program("output to a logger", "", start="setsid sh -c 'setsid sh -c \"echo \\$\\$ >/run/p.pid; while :; do echo; "
        "sleep 0.1; done\" | cat >/dev/null' </dev/null >/dev/null 2>&1 &"),
    Program("nohup job", "", start="nohup sh -c 'while :; do sleep 0.1; done' </dev/null >/var/log/n.log 2>&1 & "
        "echo $! >/run/p.pid"),
    Program("PHP FPM, as root", "php-fpm8.4 -F -R -y /srv/fpm.conf",
        prepare="printf '[global]\\nerror_log=/var/log/fpm.log\\n[w]\\nuser=root\\ngroup=root\\n"
        "listen=127.0.0.1:9001\\npm=static\\npm.max_children=3\\n' >/srv/fpm.conf; : >>/var/log/fpm.log"),
    Program("gunicorn with two workers", "gunicorn -w 2 -b 127.0.0.1:8101 --chdir /srv g:app",
        prepare="printf 'def app(e, s):\\n    s(\"200 OK\", [])\\n    return [b\"x\"]\\n' >/srv/g.py"),
    Program("uWSGI", "uwsgi --plugin python3 --http-socket 127.0.0.1:8102 --master --processes 2 --wsgi-file /srv/u.py",
        prepare="printf 'def application(e, s):\\n    s(\"200 OK\", [])\\n    return [b\"x\"]\\n' >/srv/u.py"),
    Program("BIND", "named -f -c /srv/named.conf",
        prepare="mkdir -p /srv/named; printf 'options { directory \"/srv/named\"; listen-on port 5398 { any; }; "
        "pid-file none; session-keyfile none; }; controls {};' >/srv/named.conf"),
    Program("Varnish", "varnishd -F -j none -a 127.0.0.1:8103 -b 127.0.0.1:1 -n /srv/varnish",
        prepare="mkdir -p /srv/varnish"),
    Program("git daemon", "git daemon --reuseaddr --base-path=/srv --port=9419 /srv"),
    Program("OpenLDAP", "slapd -d 0 -h ldap://127.0.0.1:3890/ -f /srv/slapd.conf",
        prepare="mkdir -p /srv/ldap; printf 'include /etc/ldap/schema/core.schema\\nmodulepath /usr/lib/ldap\\n"
        "moduleload back_mdb\\ndatabase mdb\\nmaxsize 1000000\\nsuffix \"dc=x\"\\ndirectory /srv/ldap\\n' "
        ">/srv/slapd.conf"),
    Program("etcd", "etcd --data-dir /srv/etcd"),
    Program("Erlang", "erl -noshell -noinput -eval 'receive stop -> ok end.'"),
    Program("vsftpd", "vsftpd /srv/vs.conf",
        prepare="mkdir -p /var/run/vsftpd/empty; printf 'listen=YES\\nlisten_port=2121\\nbackground=NO\\n' "
        ">/srv/vs.conf"),
    Program("Transmission", "transmission-daemon -f -g /srv/tr -w /srv -p 9092",
        prepare="mkdir -p /srv/tr"),
    Program("Caddy", "env HOME=/srv caddy file-server --listen :8104 --root /srv"),
    Program("Syncthing", "env HOME=/srv syncthing serve --no-browser --home /srv/st --gui-address 127.0.0.1:8384",
        prepare="mkdir -p /srv/st"),
    Program("Exim", "exim4 -bdf -q30m -oX 2525"),
    Program("Dovecot", "dovecot -F"),
    Program("Tor", "tor --DataDirectory /srv/tor --SocksPort 9055 --DisableNetwork 1",
        prepare="mkdir -p -m 700 /srv/tor"),
    Program("Python, a pool of processes", "python3 /srv/pool.py",
        prepare="printf 'import multiprocessing as m, time\\ndef f(x):\\n    time.sleep(0.01); return x\\nif "
        "__name__ == \"__main__\":\\n    with m.get_context(\"fork\").Pool(3) as p:\\n        while True: p.map(f, "
        "range(10))\\n' >/srv/pool.py"),
    Program("Python, a pool, spawned", "python3 /srv/pools.py",
        prepare="printf 'import multiprocessing as m, time\\ndef f(x):\\n    time.sleep(0.01); return x\\nif "
        "__name__ == \"__main__\":\\n    with m.get_context(\"spawn\").Pool(2) as p:\\n        while True: p.map(f, "
        "range(10))\\n' >/srv/pools.py"),
    Program("etcd, its files by rsync", "etcd --data-dir /srv/etcd2 --listen-client-urls http://127.0.0.1:2479 "
        "--advertise-client-urls http://127.0.0.1:2479 --listen-peer-urls http://127.0.0.1:2480", profile=BRINGS),
    Program("OpenLDAP, its files by rsync", "slapd -d 0 -h ldap://127.0.0.1:3891/ -f /srv/slapd2.conf",
        prepare="mkdir -p /srv/ldap2; printf 'include /etc/ldap/schema/core.schema\\nmodulepath /usr/lib/ldap\\n"
        "moduleload back_mdb\\ndatabase mdb\\nmaxsize 1000000\\nsuffix \"dc=x\"\\ndirectory /srv/ldap2\\n' "
        ">/srv/slapd2.conf", profile=BRINGS),
    Program("Tor, its files by rsync", "tor --DataDirectory /srv/tor2 --SocksPort 9056 --DisableNetwork 1",
        prepare="mkdir -p -m 700 /srv/tor2", profile=BRINGS),
    Program("cron, its files by rsync", "cron -f", profile=BRINGS),
    Program("JVM, its files by rsync", "java -Xmx64m /srv/Loop.java", prepare=LOOP, profile=BRINGS),
    Program("Redis with a file, brought by rsync", "redis-server --port 6392 --appendonly yes --dir /srv/rd2",
        prepare="mkdir -p /srv/rd2", profile=BRINGS),
    Program("Redis with a file that it appends to", "redis-server --port 6391 --appendonly yes --dir /srv/rd",
        prepare="mkdir -p /srv/rd"),
]  # fmt: skip


def install(*hosts: Host) -> None:
    """In the same order on all: users have the same numbers. From outside: the hosts have no way to a mirror."""
    archives = "-o Dir::Cache::archives=/tmp/debs -o APT::Keep-Downloaded-Packages=true -o APT::Sandbox::User=root"
    apt = f"apt-get -qq {' '.join(prepare.apt_words())} {archives} -o Dpkg::Options::=--force-unsafe-io"
    script = f"""
        export DEBIAN_FRONTEND=noninteractive
        mkdir -p /tmp/debs/partial /usr/share/man/man1 && printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d
        chmod +x /usr/sbin/policy-rc.d && {apt} update && {apt} -y --no-install-recommends install {PACKAGES}
    """
    for host in hosts:
        enter = [f"--target={host.pid}", "--mount", "--uts", "--ipc", "--pid", "--root", "--wd"]
        subprocess.run(["nsenter", *enter, "sh", "-ec", script], stdout=subprocess.DEVNULL, check=True)


def shell(host: Host, text: str, timeout: float = 90) -> str:
    return host.run(["sh", "-c", text], check=False, timeout=timeout).stdout


def end(src: Host, dst: Host, before: dict[str, set[str]]) -> None:
    """Whatever is new on the hosts."""
    for host in (src, dst):
        for _ in range(3):
            new = set(shell(host, "ps -eo pid=").split()) - before[host.name]
            shell(host, f"kill -9 {' '.join(new)} 2>/dev/null; rm -rf /run/p.pid {LEFT}")


def look(src: Host) -> list[dict[str, Any]]:
    return list(json.loads(shell(src, "criu-lazy check --json /root/p.yaml") or "[]"))


def migrate(src: Host, dst: Host, profile: str) -> tuple[bool, str]:
    """Whether it moved and lives, and what happened."""
    src.write("/root/p.yaml", profile)
    pid = shell(src, "cat /run/p.pid").strip()
    said = shell(src, "criu-lazy migrate --quiet --json /root/p.yaml")
    report = json.loads(said or "{}")
    if report.get("outcome") != "committed":
        message = str(report.get("message")).partition("; logs: ")[0]
        return False, f"{report.get('outcome')}: {message}"
    time.sleep(1)
    lives = shell(dst, f"grep -q '^State:.[SRDT]' /proc/{pid}/status && echo yes").strip() == "yes"
    return lives, f"moved, downtime {report['downtime_s'] * 1e3:.0f} ms" if lives else "moved, and is dead there"


def row(src: Host, dst: Host, program: Program) -> tuple[str, str, str, bool]:
    """Name, word, what happens, whether the word was right."""
    before = {host.name: set(shell(host, "ps -eo pid=").split()) for host in (src, dst)}
    try:
        shell(src, program.start.format(run=program.run))
        time.sleep(3)
        src.write("/root/p.yaml", PROFILE + program.profile)
        if not (found := look(src)):
            return program.name, "", "it does not run", False
        fails = [item for item in found if item["verdict"] == "fail"]
        names = sorted({item["check"] for item in fails})
        moves, happens = migrate(src, dst, f"{PROFILE}{program.profile}accept: [{', '.join(names)}]\n")
        warned = ", ".join(sorted({item["check"] for item in found if item["verdict"] == "warn"}))
        words = [item["text"] for item in fails] + ([f"warned: {warned}"] if warned else [])
        is_right = moves == (not fails) or (not fails and SHORT_LIVED in warned)
        return program.name, "; ".join(words) or "ok", happens, is_right
    finally:
        end(src, dst, before)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--testbed", required=True)
    parser.add_argument("--into", type=Path)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("programs", nargs="*")
    options = parser.parse_args()
    testbed = Testbed.attach(options.testbed)
    src, dst = testbed.src, testbed.dst
    if options.install:
        install(src, dst)
    text = options.into.read_text() if options.into else ""
    head, _, rest = text.partition("<!-- programs -->\n")
    before, _, tail = rest.partition("<!-- end -->\n")
    known = {line.split(" | ")[0].removeprefix("| "): line for line in before.splitlines()[2:]}
    rows = []
    for program in PROGRAMS:
        if options.programs and program.name not in options.programs:
            rows += [known[program.name]] if program.name in known else []
            continue
        for host in (src, dst):
            shell(host, f": >>/var/log/p.log; {program.prepare}")
        made = row(src, dst, program)
        rows.append("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in made[:3]) + " |")
        print(("   " if made[3] else "!! ") + rows[-1], flush=True)
    if options.into:
        table = "| program | the preflight says | what then happens |\n| --- | --- | --- |\n" + "\n".join(rows) + "\n"
        options.into.write_text(f"{head}<!-- programs -->\n{table}<!-- end -->\n{tail}")


if __name__ == "__main__":
    main()
