{{- /*
The Deployment of one process. Takes root, component, name, values (of this process), ports (of the container; the first
is probed), env (of this process), and where they apply: pool, replicas, models, backfills, preStopSeconds, token, recreate.
*/ -}}
{{- define "millrace.deployment" -}}
{{- $values := .root.Values }}
{{- $preStopSeconds := .preStopSeconds | default 0 }}
{{- $claim := ternary $values.backfills.claim "" (.backfills | default false) }}
{{- $env := mergeOverwrite (dict) $values.settings .values.settings .env (dict "MILLRACE_SHUTDOWN_SECONDS" .values.shutdownSeconds) }}
{{- with $claim }}{{ $_ := set $env "MILLRACE_BACKFILL_WORK" "/backfills/work" }}{{ end }}
{{- with $values.redis.tls }}
{{- if .secret }}{{ $_ := set $env "MILLRACE_REDIS_TLS_CA_FILE" "/redis-tls/ca.crt" }}{{ end }}
{{- if .certificate }}{{ $_ := required "redis.tls.secret: the secret with the certificate for Redis" .secret }}{{ $_ := set $env "MILLRACE_REDIS_TLS_CERT_FILE" "/redis-tls/tls.crt" }}{{ $_ := set $env "MILLRACE_REDIS_TLS_KEY_FILE" "/redis-tls/tls.key" }}{{ end }}
{{- end }}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "millrace.metadata" . | nindent 2 }}
spec:
  {{- if hasKey . "replicas" }}
  replicas: {{ .replicas }}
  {{- end }}
  {{- if .recreate }}
  strategy: { type: Recreate }
  {{- end }}
  {{- with .values.rollingUpdate }}
  strategy: { type: RollingUpdate, rollingUpdate: {{ toJson . }} }
  {{- end }}
  selector:
    matchLabels:
      {{- include "millrace.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "millrace.selector" . | nindent 8 }}
    spec:
      serviceAccountName: {{ include "millrace.fullname" .root }}{{ if .token }}-autoscaler{{ end }}
      automountServiceAccountToken: {{ .token | default false }}
      enableServiceLinks: false
      # A process 1 without a handler ignores SIGTERM, and Node has none until Millrace has started: here the pause container is the first.
      shareProcessNamespace: true
      # Longer than the process takes to stop by itself; then it would be killed in the middle.
      terminationGracePeriodSeconds: {{ add (ceil .values.shutdownSeconds) 5 $preStopSeconds }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 1000
        runAsGroup: 1000
        fsGroup: 1000
        seccompProfile: { type: RuntimeDefault }
      {{- with $values.image.pullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      {{- with .values.runtimeClassName }}
      runtimeClassName: {{ . }}
      {{- end }}
      {{- with .values.nodeSelector }}
      nodeSelector: {{ toJson . }}
      {{- end }}
      {{- with .values.tolerations }}
      tolerations: {{ toJson . }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "millrace.image" . }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          env:
            - name: REDIS_URL
              valueFrom: { secretKeyRef: { name: {{ $values.redis.secret }}, key: {{ $values.redis.key }} } }
            {{- range $name, $value := $env }}
            - name: {{ $name }}
              {{- /* As JSON, since a template prints a large number as 2e+06. */}}
              value: {{ ternary $value (toJson $value) (kindIs "string" $value) | quote }}
            {{- end }}
          {{- with $values.secretSettings }}
          envFrom:
            {{- range . }}
            - secretRef: { name: {{ . }} }
            {{- end }}
          {{- end }}
          ports: {{ toJson .ports }}
          {{- $probed := (first .ports).name }}
          # Whether the process answers, and nothing else: without Redis they go on by themselves when it is back.
          livenessProbe:
            httpGet: { path: /healthz, port: {{ $probed }} }
            periodSeconds: 10
            timeoutSeconds: 5
          readinessProbe:
            httpGet: { path: /readyz, port: {{ $probed }} }
            periodSeconds: 5
            timeoutSeconds: 5
          startupProbe:
            httpGet: { path: /healthz, port: {{ $probed }} }
            periodSeconds: 2
            failureThreshold: {{ div (.values.startSeconds | default 60) 2 }}
          {{- if $preStopSeconds }}
          lifecycle:
            preStop: { sleep: { seconds: {{ $preStopSeconds }} } }
          {{- end }}
          resources: {{ toJson .values.resources }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
          volumeMounts:
            - { name: scratch, mountPath: /tmp }
            {{- if and .models (ne $values.models.from "image") }}
            - { name: models, mountPath: /models, readOnly: true }
            {{- end }}
            {{- if $claim }}
            - { name: backfills, mountPath: /backfills }
            {{- end }}
            {{- if $values.redis.tls.secret }}
            - { name: redis-tls, mountPath: /redis-tls, readOnly: true }
            {{- end }}
      volumes:
        - { name: scratch, emptyDir: {} }
        {{- if and .models (eq $values.models.from "claim") }}
        - { name: models, persistentVolumeClaim: { claimName: {{ required "models.claim: the claim with the models" $values.models.claim }}, readOnly: true } }
        {{- else if and .models (eq $values.models.from "hostPath") }}
        - { name: models, hostPath: { path: {{ required "models.hostPath: the folder with the models" $values.models.hostPath }}, type: Directory } }
        {{- end }}
        {{- with $claim }}
        - { name: backfills, persistentVolumeClaim: { claimName: {{ . }} } }
        {{- end }}
        {{- if $values.redis.tls.secret }}
        - { name: redis-tls, secret: { secretName: {{ $values.redis.tls.secret }} } }
        {{- end }}
{{- end }}

{{- /* Takes what the Deployment takes, and maxUnavailable. */ -}}
{{- define "millrace.disruptions" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "millrace.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .maxUnavailable }}
  selector:
    matchLabels:
      {{- include "millrace.selector" . | nindent 6 }}
{{- end }}
