{{- define "mysql.config" -}}
[mysqld]
innodb_buffer_pool_size = {{ int64 .Values.bufferPoolMiB }}M
innodb_redo_log_capacity = 64M
max_connections = {{ .Values.maxConnections }}
# it holds some 200 MB, and the exporter does without
performance_schema = OFF
# grants name addresses, and a DNS that hangs must not hang logins
skip_name_resolve = ON
{{- if .Values.tls.enabled }}
# nothing but TLS, but for the socket
require_secure_transport = ON
tls_version = TLSv1.2,TLSv1.3
ssl_ca = /etc/tls/ca.crt
ssl_cert = /etc/tls/tls.crt
ssl_key = /etc/tls/tls.key
{{- end }}
{{- with .Values.extraConfig }}
{{ . | trim }}
{{- end }}
{{ end -}}

{{- /* What must be told to a MySQL that runs: the exporter's user, however old the data are, and a certificate that was renewed. */ -}}
{{- define "mysql.keeper" -}}
trap exit TERM
pause() { sleep "$1" & wait $!; }
{{- if .Values.exporter.enabled }}
# a quote or backslash in the password stays what it is
password=$(printf %s "$EXPORTER_PASSWORD" | sed 's/\\/\\\\/g; s/'\''/\\'\''/g')
until mysqladmin --user=root --silent ping; do pause 1; done
until mysql --user=root <<SQL
CREATE USER IF NOT EXISTS 'exporter'@'127.0.0.1';
ALTER USER 'exporter'@'127.0.0.1' IDENTIFIED BY '$password' WITH MAX_USER_CONNECTIONS 3;
GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'exporter'@'127.0.0.1';
SQL
do pause 3; done
echo "the user exporter is there"
{{- end }}
{{- if .Values.tls.enabled }}
# the kubelet puts in new files by turning a link
known=$(readlink /etc/tls/..data)
while pause 10; do
  now=$(readlink /etc/tls/..data)
  if [ "$now" != "$known" ] && mysql --user=root --execute='ALTER INSTANCE RELOAD TLS'; then
    known=$now
    echo "MySQL has the new certificate"
  fi
done
{{- else }}
pause infinity
{{- end }}
{{ end -}}
