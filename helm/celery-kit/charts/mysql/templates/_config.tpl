{{- define "mysql.config" -}}
[mysqld]
innodb_buffer_pool_size = {{ .Values.bufferPoolMiB }}M
innodb_redo_log_capacity = 64M
max_connections = {{ .Values.maxConnections }}
# it holds some 200 MB, and the exporter does without
performance_schema = OFF
# grants name addresses, and a DNS that hangs must not hang logins
skip_name_resolve = ON
{{- with .Values.extraConfig }}
{{ . | trim }}
{{- end }}
{{ end -}}

{{- /* Sourced by the image at the first start; a quote or backslash in the password stays what it is. */ -}}
{{- define "mysql.exporterUser" -}}
password=$(printf %s "$EXPORTER_PASSWORD" | sed 's/\\/\\\\/g; s/'\''/\\'\''/g')
MYSQL_PWD="$MYSQL_ROOT_PASSWORD" mysql --user=root <<SQL
CREATE USER IF NOT EXISTS 'exporter'@'127.0.0.1' IDENTIFIED BY '$password' WITH MAX_USER_CONNECTIONS 3;
GRANT PROCESS, REPLICATION CLIENT, SELECT ON *.* TO 'exporter'@'127.0.0.1';
SQL
{{ end -}}
