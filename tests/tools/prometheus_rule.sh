#!/usr/bin/env bash
# Prints the rules of k8s/prometheus as a PrometheusRule, which the Prometheus operator takes; `make rules` writes it to its place.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../../k8s/prometheus"
cat <<'HEAD'
# Made of recording.yaml and alerts.yaml by `make rules`; change those. A Prometheus whose ruleSelector asks for a label needs it here:
# add it in an overlay.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tollgate
  labels:
    app.kubernetes.io/name: tollgate
spec:
  groups:
HEAD
for file in recording.yaml alerts.yaml; do
    # What follows the line `groups:`, two columns deeper.
    sed '1,/^groups:$/d; s/^./  &/' "$file"
done
