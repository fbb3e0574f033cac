// Judges manifests of custom kinds by the published types of @kubernetes-models: a JSON list of documents on stdin, a JSON list of
// complaints (or null) on stdout, in the same order.

const PACKAGES = {
  "gateway.envoyproxy.io": "envoy-gateway",
  "gateway.networking.k8s.io": "gateway-api",
  "monitoring.coreos.com": "prometheus-operator",
  "networking.istio.io": "istio",
  "security.istio.io": "istio",
};

async function complaint(document) {
  const [group, version] = document.apiVersion.split("/");
  const name = PACKAGES[group];
  if (name === undefined) return `nobody publishes a type of ${document.apiVersion} ${document.kind}`;
  let types;
  try {
    types = await import(`@kubernetes-models/${name}/${group}/${version}/${document.kind}`);
  } catch (error) {
    if (error.code === "ERR_MODULE_NOT_FOUND" || error.code === "ERR_PACKAGE_PATH_NOT_EXPORTED") {
      return `@kubernetes-models/${name} knows no ${document.apiVersion} ${document.kind}`;
    }
    throw error;
  }
  try {
    new types[document.kind](document).validate();
    return null;
  } catch (error) {
    return error.message;
  }
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const complaints = [];
for (const document of JSON.parse(text)) complaints.push(await complaint(document));
process.stdout.write(JSON.stringify(complaints));
