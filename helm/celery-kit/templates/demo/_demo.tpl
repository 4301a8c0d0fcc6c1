{{- /* The demo's task must be one that clients may call, and of a queue that some pool consumes. */ -}}
{{- define "celery-kit.demoChecks" -}}
{{- if .Values.demo.enabled -}}
{{- /* without a catalogue the gateway has the example tasks, all on the queue `default` */ -}}
{{- $task := get (.Values.gateway.catalogue | default (dict "task.sleep" (dict "queue" "default"))) "task.sleep" -}}
{{- if not (and $task (dig "allowed" true ($task | default dict))) -}}
{{- fail "demo.enabled: its task must be in gateway.catalogue, as `task.sleep: {queue: default}`; or set demo.enabled to false" -}}
{{- end -}}
{{- $consumed := list -}}
{{- range include "celery-kit.pools" . | fromJson -}}
{{- $consumed = concat $consumed .queues -}}
{{- end -}}
{{- if not (has $task.queue $consumed) -}}
{{- fail (printf "demo.enabled: no pool of worker.pools consumes %q, the queue of its task task.sleep" $task.queue) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "celery-kit.demoSpec" -}}
# what it does is over by then, however slow the start
activeDeadlineSeconds: {{ add (ceil (mulf .Values.demo.minutes 60)) 900 }}
backoffLimit: 0
template:
  metadata:
    labels: {{- include "celery-kit.selector" (list . "demo") | nindent 6 }}
  spec: {{- include "celery-kit.pod" (list . 10001 .Values.gateway) | nindent 4 }}
    automountServiceAccountToken: false
    restartPolicy: Never
    containers:
      - name: demo {{- include "celery-kit.container" (list . .Values.gateway.image) | nindent 8 }}
        command:
          - python
          - -c
          - | {{- .Files.Get "files/demo.py" | nindent 12 }}
        env:
          - name: GATEWAY_URL
            value: http://{{ include "celery-kit.name" (list . "gateway") }}:8000
          {{- if .Values.gateway.auth.enabled }}
          {{- include "celery-kit.secretVariable" (list "API_KEY" (include "celery-kit.secretName" (list . "gateway")) "api-key") | nindent 10 }}
          {{- end }}
          - name: TASK
            value: task.sleep
          - name: TASKS_PER_SECOND
            value: {{ .Values.demo.tasksPerSecond | toJson | quote }}
          - name: TASK_SECONDS
            value: {{ .Values.demo.taskSeconds | toJson | quote }}
          - name: MINUTES
            value: {{ .Values.demo.minutes | toJson | quote }}
          - name: WAIT_SECONDS
            value: {{ .Values.gateway.maxWaitSeconds | toJson | quote }}
        resources:
          requests:
            cpu: 50m
            memory: 64Mi
          limits:
            cpu: 500m
            memory: 128Mi
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
    volumes:
      - name: tmp
        emptyDir: {}
{{- end -}}
