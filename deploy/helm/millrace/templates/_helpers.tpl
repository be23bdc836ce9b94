{{- /* Names, and what the pods of all processes have alike. */ -}}

{{- define "millrace.fullname" -}}
{{- /* With `-worker-` and a pool's name behind it, at most 63 characters. */ -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) (contains .Chart.Name .Release.Name) | trunc 24 | trimSuffix "-" }}
{{- end }}

{{- /* What selects the pods of one process. Takes root, component and, of workers, pool. */ -}}
{{- define "millrace.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
millrace/pool: {{ . }}
{{- end }}
{{- end }}

{{- define "millrace.labels" -}}
{{ include "millrace.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "millrace.metadata" -}}
name: {{ .name }}
labels:
  {{- include "millrace.labels" . | nindent 2 }}
{{- end }}

{{- define "millrace.image" -}}
{{ .root.Values.image.registry }}{{ .values.image }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* The pools with the values that all have: a map by name, as JSON. A pool that is null is none: Helm takes it away. */ -}}
{{- define "millrace.pools" -}}
{{- $pools := dict }}
{{- range $name, $own := .Values.pools }}
{{- $pool := mergeOverwrite (deepCopy $.Values.worker) (deepCopy $own) }}
{{- with $pool.scaling }}
{{- if gt (int .min) (int .max) }}{{ fail (printf "pools.%s.scaling: min is larger than max" $name) }}{{ end }}
{{- if and (eq .by "hpa") (eq (int .min) 0) }}{{ fail (printf "pools.%s.scaling.min: an HPA does not go to zero; KEDA and the autoscaler do" $name) }}{{ end }}
{{- end }}
{{- $_ := set $pools $name $pool }}
{{- end }}
{{- toJson $pools }}
{{- end }}

{{- define "millrace.workerName" -}}
{{ include "millrace.fullname" .root }}-worker-{{ .pool }}
{{- end }}

{{- /* Fleets follow the decisions of Millrace's policy as they come: it has its own hysteresis, and knows what is running. */ -}}
{{- define "millrace.behavior" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies: [{ type: Pods, value: {{ .max }}, periodSeconds: 15 }]
scaleDown:
  stabilizationWindowSeconds: 0
  policies: [{ type: Pods, value: {{ .max }}, periodSeconds: 15 }]
{{- end }}
