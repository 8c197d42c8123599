"""Who may do what: the expected outcome of every route for each of six kinds of senders, in one table.

Columns: nobody; the service account of another namespace; the viewer, the editor (its service account), the owner of
the namespace that is asked about; a cluster administrator. Outcomes:

    ok      answered (2xx, 3xx)
    in      let through: whatever is said now (404, 400, 409 …) is about what was asked, not about who asks
    401     not known who asks      403     known, and refused      login   sent to log in
    404     not even told whether there is such a thing      501     not an operation here, whoever asks
    400     something is missing that programs and forms send      302     sent on
    4xx     refused for a form that cannot be sent from here (a file, a draft): who may is tested where it lives

A new route has no line here, and the tests fail until somebody has thought about who may use it.
"""

from __future__ import annotations

COLUMNS = ("anonymous", "foreign", "viewer", "editor", "owner", "admin")
OUTCOMES: dict[str, tuple[str, ...]] = {
    #              nobody   foreign  viewer  editor  owner   admin
    "open":       ("in",    "in",    "in",   "in",   "in",   "in"),
    "everybody":  ("401",   "in",    "in",   "in",   "in",   "in"),
    "read":       ("401",   "403",   "ok",   "ok",   "ok",   "ok"),
    "look":       ("401",   "403",   "in",   "in",   "in",   "in"),
    "write":      ("401",   "403",   "403",  "in",   "in",   "in"),
    "own":        ("401",   "403",   "403",  "403",  "in",   "in"),
    "manage":     ("401",   "403",   "403",  "403",  "403",  "in"),
    "person":     ("401",   "403",   "in",   "403", "in",    "in"),
    "not here":   ("401",   "403",   "501",  "501",  "501",  "501"),
    "pods only":  ("401",   "403",   "403",  "in",   "403",  "403"),
    "refused":    ("401",   "501",   "501",  "501",  "501",  "501"),
    "page":       ("login", "403",   "ok",   "ok",   "ok",   "ok"),
    "own page":   ("login", "ok",    "ok",   "ok",   "ok",   "ok"),
    "admin page": ("login", "403",   "403",  "403",  "403",  "ok"),
    "member page": ("login", "404",  "ok",   "404",  "ok",   "ok"),
    "form":       ("401",   "4xx",   "4xx",  "4xx",  "4xx",  "4xx"),
    "page part":  ("login", "in",    "in",   "in",   "in",   "in"),
    # The login's own, which authenticate by themselves; asked here without what they need of a program or a form.
    "public":     ("ok",    "ok",    "ok",   "ok",   "ok",   "ok"),
    "says nothing": ("400", "400",   "400",  "400",  "400",  "400"),
    "no client":  ("401",   "401",   "401",  "401",  "401",  "401"),
    "not begun":  ("403",   "403",   "403",  "403",  "403",  "403"),
    "begins":     ("302",   "302",   "302",  "302",  "302",  "302"),
    "link":       ("login", "login", "login", "login", "login", "login"),
    "session":    ("login", "login", "ok",   "login", "ok",  "ok"),
    "session form": ("login", "login", "400", "login", "400", "400"),
    "session only": ("401", "401",   "ok",   "401",  "ok",   "ok"),
    "old password": ("401", "403",   "403",  "403",  "403",  "403"),
    "nuke":       ("401",   "403",   "403",  "403",  "403",  "404"),
}  # fmt: skip

GATEWAY = """
GET     /healthz                                                                 open
GET     /serving/{namespace}/{model}                                             look
POST    /serving/{namespace}/{model}                                             write
GET     /dex/.well-known/openid-configuration                                    public
GET     /dex/keys                                                                public
POST    /dex/token                                                               says nothing
POST    /dex/token/introspect                                                    no client
POST    /dex/token/revoke                                                        no client
GET     /dex/userinfo                                                            no client
POST    /dex/userinfo                                                            no client
GET     /dex/healthz                                                             public
POST    /dex/device/code                                                         no client
GET     /dex/device                                                              session
POST    /dex/device                                                              session form
GET     /dex/auth                                                                says nothing
GET     /dex/auth/local/login                                                    says nothing
POST    /dex/auth/local/login                                                    says nothing
GET     /dex/auth/{connector}                                                    says nothing
GET     /dex/callback                                                            not begun
GET     /oauth2/start                                                            begins
GET     /oauth2/sign_in                                                          begins
GET     /oauth2/callback                                                         not begun
GET     /oauth2/sign_out                                                         public
POST    /oauth2/sign_out                                                         public
GET     /oauth2/userinfo                                                         session only
GET     /oauth2/auth                                                             session only
GET     /login                                                                   link
GET     /logout                                                                  public
GET     /api/identity/me                                                         everybody
GET     /api/identity/kubeconfig                                                 everybody
PUT     /api/identity/me/password                                                old password
GET     /api/identity/sessions                                                   everybody
GET     /api/identity/tokens                                                     everybody
POST    /api/identity/tokens                                                     person
DELETE  /api/identity/credentials/{name}                                         everybody
GET     /api/identity/audit                                                      everybody
GET     /api/identity/users                                                      manage
POST    /api/identity/users                                                      manage
PATCH   /api/identity/users/{email}                                              manage
DELETE  /api/identity/users/{email}                                              manage
GET     /kfam/                                                                   everybody
GET     /kfam/v1/bindings                                                        everybody
POST    /kfam/v1/bindings                                                        own
DELETE  /kfam/v1/bindings                                                        own
POST    /kfam/v1/profiles                                                        person
DELETE  /kfam/v1/profiles/{profile}                                              own
GET     /kfam/v1/role/clusteradmin                                               everybody
GET     /api/workgroup/exists                                                    everybody
POST    /api/workgroup/create                                                    person
GET     /api/workgroup/env-info                                                  everybody
DELETE  /api/workgroup/nuke-self                                                 nuke
GET     /api/workgroup/get-all-namespaces                                        everybody
GET     /api/workgroup/get-contributors/{namespace}                              everybody
POST    /api/workgroup/add-contributor/{namespace}                               own
DELETE  /api/workgroup/remove-contributor/{namespace}                            own
GET     /apis/v2beta1/healthz                                                    everybody
GET     /apis/v2beta1/auth                                                       read
POST    /apis/v2beta1/visualizations/{namespace}                                 not here
POST    /apis/v2beta1/experiments/{id}:archive                                   write
POST    /apis/v2beta1/experiments/{id}:unarchive                                 write
GET     /apis/v2beta1/experiments                                                read
POST    /apis/v2beta1/experiments                                                write
GET     /apis/v2beta1/experiments/{id}                                           read
DELETE  /apis/v2beta1/experiments/{id}                                           write
POST    /apis/v2beta1/pipelines/upload                                           write
POST    /apis/v2beta1/pipelines/upload_version                                   write
POST    /apis/v2beta1/pipelines/create                                           write
GET     /apis/v2beta1/pipelines/names/{name}                                     read
GET     /apis/v2beta1/pipelines                                                  read
POST    /apis/v2beta1/pipelines                                                  write
GET     /apis/v2beta1/pipelines/{id}                                             read
DELETE  /apis/v2beta1/pipelines/{id}                                             write
PATCH   /apis/v2beta1/pipelines/{id}                                             write
GET     /apis/v2beta1/pipelines/{id}/versions                                    read
POST    /apis/v2beta1/pipelines/{id}/versions                                    write
GET     /apis/v2beta1/pipelines/{id}/versions/{version}                          read
DELETE  /apis/v2beta1/pipelines/{id}/versions/{version}                          write
PATCH   /apis/v2beta1/pipelines/{id}/versions/{version}                          write
POST    /apis/v2beta1/runs/{run}/tasks/{task}:report                             pods only
GET     /apis/v2beta1/tasks:findCached                                           look
GET     /apis/v2beta1/tasks                                                      read
POST    /apis/v2beta1/tasks                                                      refused
GET     /apis/v2beta1/tasks/{task}                                               read
PATCH   /apis/v2beta1/tasks/{task}                                               refused
GET     /apis/v2beta1/artifact_tasks                                             read
POST    /apis/v2beta1/artifact_tasks                                             refused
POST    /apis/v2beta1/artifacts                                                  write
GET     /apis/v2beta1/artifacts/{id}/lineage                                     read
GET     /apis/v2beta1/artifacts                                                  read
GET     /apis/v2beta1/artifacts/{id}:download                                    look
PUT     /apis/v2beta1/artifacts/{id}:upload                                      write
GET     /apis/v2beta1/artifacts/{id}:preview                                     look
GET     /apis/v2beta1/artifacts/{id}                                             read
GET     /apis/v2beta1/runs/{run}/nodes/{node}/artifacts/{artifact}:read          look
GET     /apis/v2beta1/runs/{run}/nodes/{node}/artifacts/{artifact}:stream        look
POST    /apis/v2beta1/runs/{id}:archive                                          write
POST    /apis/v2beta1/runs/{id}:unarchive                                        write
POST    /apis/v2beta1/runs/{id}:terminate                                        write
POST    /apis/v2beta1/runs/{id}:retry                                            write
GET     /apis/v2beta1/runs                                                       read
POST    /apis/v2beta1/runs                                                       write
GET     /apis/v2beta1/runs/{id}/tasks                                            read
GET     /apis/v2beta1/runs/{id}                                                  read
DELETE  /apis/v2beta1/runs/{id}                                                  write
POST    /apis/v2beta1/recurringruns/{id}:enable                                  write
POST    /apis/v2beta1/recurringruns/{id}:disable                                 write
GET     /apis/v2beta1/recurringruns                                              read
POST    /apis/v2beta1/recurringruns                                              write
GET     /apis/v2beta1/recurringruns/{id}                                         read
DELETE  /apis/v2beta1/recurringruns/{id}                                         write
DELETE  /apis/v2beta1/filters                                                    refused
GET     /apis/v2beta1/filters                                                    refused
PATCH   /apis/v2beta1/filters                                                    refused
POST    /apis/v2beta1/filters                                                    refused
PUT     /apis/v2beta1/filters                                                    refused
DELETE  /apis/v2beta1/scheduledworkflows                                         refused
GET     /apis/v2beta1/scheduledworkflows                                         refused
PATCH   /apis/v2beta1/scheduledworkflows                                         refused
POST    /apis/v2beta1/scheduledworkflows                                         refused
PUT     /apis/v2beta1/scheduledworkflows                                         refused
DELETE  /apis/v2beta1/workflows                                                  refused
GET     /apis/v2beta1/workflows                                                  refused
PATCH   /apis/v2beta1/workflows                                                  refused
POST    /apis/v2beta1/workflows                                                  refused
PUT     /apis/v2beta1/workflows                                                  refused
GET     /apis/v1beta1/healthz                                                    everybody
GET     /apis/v1beta1/auth                                                       read
POST    /apis/v1beta1/visualizations/{namespace}                                 not here
GET     /apis/v1beta1/runs/{run}/nodes/{node}/artifacts/{artifact}:read          look
GET     /apis/v1beta1/runs/{run}/nodes/{node}/artifacts/{artifact}:stream        look
GET     /apis/v1beta1/experiments                                                read
POST    /apis/v1beta1/experiments                                                write
POST    /apis/v1beta1/experiments/{id}:archive                                   write
POST    /apis/v1beta1/experiments/{id}:unarchive                                 write
GET     /apis/v1beta1/experiments/{id}                                           read
DELETE  /apis/v1beta1/experiments/{id}                                           write
POST    /apis/v1beta1/pipelines/upload                                           write
POST    /apis/v1beta1/pipelines/upload_version                                   write
GET     /apis/v1beta1/pipelines                                                  read
POST    /apis/v1beta1/pipelines                                                  write
GET     /apis/v1beta1/pipelines/{id}                                             read
DELETE  /apis/v1beta1/pipelines/{id}                                             write
GET     /apis/v1beta1/pipelines/{id}/templates                                   read
GET     /apis/v1beta1/namespaces/{namespace}/pipelines/{name}                    read
GET     /apis/v1beta1/pipeline_versions                                          read
POST    /apis/v1beta1/pipeline_versions                                          write
GET     /apis/v1beta1/pipeline_versions/{version}                                read
DELETE  /apis/v1beta1/pipeline_versions/{version}                                write
GET     /apis/v1beta1/pipeline_versions/{version}/templates                      read
GET     /apis/v1beta1/runs                                                       read
POST    /apis/v1beta1/runs                                                       write
POST    /apis/v1beta1/runs/{id}:archive                                          write
POST    /apis/v1beta1/runs/{id}:unarchive                                        write
POST    /apis/v1beta1/runs/{id}:reportMetrics                                    write
POST    /apis/v1beta1/runs/{id}/retry                                            write
POST    /apis/v1beta1/runs/{id}/terminate                                        write
GET     /apis/v1beta1/runs/{id}                                                  read
DELETE  /apis/v1beta1/runs/{id}                                                  write
GET     /apis/v1beta1/jobs                                                       read
POST    /apis/v1beta1/jobs                                                       write
POST    /apis/v1beta1/jobs/{id}/enable                                           write
POST    /apis/v1beta1/jobs/{id}/disable                                          write
GET     /apis/v1beta1/jobs/{id}                                                  read
DELETE  /apis/v1beta1/jobs/{id}                                                  write
GET     /static/{file}                                                           page part
GET     /live                                                                    page part
GET     /runs                                                                    page
GET     /runs/{run}                                                              page
GET     /models                                                                  page
GET     /                                                                        own page
GET     /workloads                                                               page
GET     /workloads/images                                                        page
GET     /account                                                                 own page
GET     /audit                                                                   own page
GET     /people                                                                  admin page
GET     /pipelines                                                               page
GET     /pipelines/new                                                           own page
GET     /pipelines/{id}                                                          page
GET     /pipelines/{id}/run                                                      page
GET     /profiles                                                                own page
GET     /profiles/{profile}                                                      member page
GET     /runs/new                                                                page
GET     /welcome                                                                 own page
POST    /account#end                                                             everybody
POST    /account#make                                                            person
POST    /account#password                                                        old password
POST    /account#seen                                                            everybody
POST    /people#add                                                              manage
POST    /people#change                                                           manage
POST    /people#password                                                         manage
POST    /people#remove                                                           manage
POST    /pipelines/new#look                                                      form
POST    /pipelines/new#save                                                      form
POST    /pipelines/{id}#delete                                                   write
POST    /pipelines/{id}#delete-version                                           write
POST    /pipelines/{id}#edit                                                     write
POST    /pipelines/{id}#edit-version                                             write
POST    /pipelines/{id}/run#start                                                write
POST    /profiles/{profile}#add                                                  own
POST    /profiles/{profile}#delete                                               own
POST    /profiles/{profile}#quota                                                manage
POST    /profiles/{profile}#remove                                               own
POST    /runs#archive                                                            write
POST    /runs#compare                                                            form
POST    /runs#delete                                                             write
POST    /runs#retry                                                              write
POST    /runs#terminate                                                          write
POST    /runs#unarchive                                                          write
POST    /runs/new#start                                                          form
POST    /runs/{run}#archive                                                      write
POST    /runs/{run}#delete                                                       write
POST    /runs/{run}#retry                                                        write
POST    /runs/{run}#terminate                                                    write
POST    /runs/{run}#unarchive                                                    write
POST    /welcome#make                                                            form
GET     /compare                                                                 page part
GET     /experiments                                                             page
GET     /schedules                                                               page
GET     /schedules/new                                                           page
POST    /experiments#archive                                                     write
POST    /experiments#make                                                        write
POST    /experiments#restore                                                     write
POST    /schedules#delete                                                        write
POST    /schedules#disable                                                       write
POST    /schedules#enable                                                        write
POST    /schedules/new#start                                                     form
POST    /workloads#apply                                                         write
POST    /workloads#check                                                         write
POST    /workloads#delete                                                        write
POST    /workloads#restart                                                       write
POST    /workloads#scale                                                         write
POST    /workloads/images#prune                                                  manage
POST    /workloads/images#remove-environment                                     manage
POST    /workloads/images#remove-image                                           manage
GET     /apis/v2beta1/objects                                                    look
GET     /apis/v2beta1/objects:download                                           look
GET     /apis/v2beta1/objects:preview                                            look
PUT     /apis/v2beta1/objects:upload                                             write
DELETE  /apis/v2beta1/objects                                                    write
GET     /artifacts                                                               page
GET     /artifacts/{id}                                                          page
POST    /artifacts#delete                                                        form
POST    /artifacts#upload                                                        form
GET     /examples/digits                                                         own page
POST    /examples/digits#start                                                   write
GET     /apis/v2beta1/artifacts/{id}:show                                        look
"""
"""Also below `/pipeline`, where clients look for the same API."""

API = """
                                                 viewer   editor                  owner
configmaps                                       r        rw                      rw
endpoints                                        r        r                       r
events                                           r        r+create,patch          r+create,patch
limitranges                                      r        r                       r
namespaces                                       get      get                     get
persistentvolumeclaims                           r        rw                      rw
pods                                             r        rw                      rw
pods/attach                                      -        rw                      rw
pods/eviction                                    -        rw                      rw
pods/exec                                        -        rw                      rw
pods/log                                         r        r                       r
pods/portforward                                 -        rw                      rw
pods/proxy                                       -        rw                      rw
pods/status                                      r        r                       r
resourcequotas                                   r        r                       r
secrets                                          -        rw                      rw
serviceaccounts                                  r        rw                      rw
serviceaccounts/token                            -        -                       rw
services                                         r        rw                      rw
services/proxy                                   -        rw                      rw
cronjobs.batch                                   r        rw                      rw
daemonsets.apps                                  r        rw                      rw
deployments.apps                                 r        rw                      rw
deployments.apps/scale                           r        rw                      rw
horizontalpodautoscalers.autoscaling             r        rw                      rw
ingresses.networking.k8s.io                      r        rw                      rw
jobs.batch                                       r        rw                      rw
networkpolicies.networking.k8s.io                r        rw                      rw
poddisruptionbudgets.policy                      r        rw                      rw
replicasets.apps                                 r        rw                      rw
replicasets.apps/scale                           r        rw                      rw
statefulsets.apps                                r        rw                      rw
statefulsets.apps/scale                          r        rw                      rw
localsubjectaccessreviews.authorization.k8s.io   -        -                       rw
rolebindings.rbac.authorization.k8s.io           -        -                       rw
roles.rbac.authorization.k8s.io                  -        -                       rw
inferenceservices.serving.kserve.io              r        rw                      rw
pipelines.pipelines.kubeflow.org                 r        rw-deletecollection     rw-deletecollection
pipelineversions.pipelines.kubeflow.org          r        rw-deletecollection     rw-deletecollection
poddefaults.kubeflow.org                         r        rw                      rw
virtualservices.networking.istio.io              r        rw                      rw
gateways.networking.istio.io                     r        rw                      rw
destinationrules.networking.istio.io             r        rw                      rw
serviceentries.networking.istio.io               r        rw                      rw
sidecars.networking.istio.io                     r        rw                      rw
envoyfilters.networking.istio.io                 r        rw                      rw
authorizationpolicies.security.istio.io          r        r                       r
peerauthentications.security.istio.io            r        r                       r
requestauthentications.security.istio.io         r        r                       r
"""
"""What the three roles may do with a resource of their namespace: `r` is get, list and watch, `rw` every verb."""

SELF = """
selfsubjectaccessreviews.authorization.k8s.io selfsubjectrulesreviews.authorization.k8s.io
selfsubjectreviews.authentication.k8s.io
"""
"""For whoever is known."""

ADMINISTRATORS = """
controllerrevisions.apps cronjobs.batch/status daemonsets.apps/status deployments.apps/status replicasets.apps/status
statefulsets.apps/status jobs.batch/status horizontalpodautoscalers.autoscaling/status
poddisruptionbudgets.policy/status ingresses.networking.k8s.io/status
ingressclasses.networking.k8s.io services/status persistentvolumeclaims/status
persistentvolumes persistentvolumes/status storageclasses.storage.k8s.io resourcequotas/status
replicationcontrollers replicationcontrollers/scale replicationcontrollers/status pods/binding pods/ephemeralcontainers
endpointslices.discovery.k8s.io events.events.k8s.io leases.coordination.k8s.io namespaces/finalize namespaces/status
nodes nodes/status nodes.metrics.k8s.io pods.metrics.k8s.io priorityclasses.scheduling.k8s.io runtimeclasses.node.k8s.io
clusterroles.rbac.authorization.k8s.io clusterrolebindings.rbac.authorization.k8s.io
subjectaccessreviews.authorization.k8s.io tokenreviews.authentication.k8s.io
inferenceservices.serving.kserve.io/status
customresourcedefinitions.apiextensions.k8s.io customresourcedefinitions.apiextensions.k8s.io/status
apiservices.apiregistration.k8s.io apiservices.apiregistration.k8s.io/status
mutatingwebhookconfigurations.admissionregistration.k8s.io
mutatingwebhookconfigurations.admissionregistration.k8s.io/status
validatingwebhookconfigurations.admissionregistration.k8s.io
validatingwebhookconfigurations.admissionregistration.k8s.io/status
validatingadmissionpolicies.admissionregistration.k8s.io
validatingadmissionpolicies.admissionregistration.k8s.io/status
validatingadmissionpolicybindings.admissionregistration.k8s.io
validatingadmissionpolicybindings.admissionregistration.k8s.io/status
passwords.dex.coreos.com profiles.kubeflow.org profiles.kubeflow.org/status poddefaults.kubeflow.org/status
pipelines.pipelines.kubeflow.org/status pipelineversions.pipelines.kubeflow.org/status
virtualservices.networking.istio.io/status
gateways.networking.istio.io/status
destinationrules.networking.istio.io/status
serviceentries.networking.istio.io/status
sidecars.networking.istio.io/status
envoyfilters.networking.istio.io/status
authorizationpolicies.security.istio.io/status
peerauthentications.security.istio.io/status
requestauthentications.security.istio.io/status
"""
"""For cluster administrators and the platform's own parts."""

DOCUMENTS = {
    "open": ["/healthz", "/livez", "/readyz", "/version"],
    "manage": ["/metrics"],
    "known": ["/api", "/apis", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/.well-known/openid-configuration"],
}
"""The API server's paths that are no resources; what lies below `/api`, `/apis` and `/healthz` is as they are."""

STORE = """
GET     /                                  manage
GET     /{bucket}                          keys
HEAD    /{bucket}                          any keys
PUT     /{bucket}                          manage
DELETE  /{bucket}                          manage
GET     /{bucket}?location                 any keys
GET     /{bucket}?versioning               any keys
GET     /{bucket}?uploads                  keys
POST    /{bucket}?delete                   each
GET     /{bucket}/{key}                    keys
HEAD    /{bucket}/{key}                    keys
PUT     /{bucket}/{key}                    keys
PUT     /{bucket}/{key}?copy               keys
DELETE  /{bucket}/{key}                    keys
GET     /{bucket}/{key}?tagging            keys
PUT     /{bucket}/{key}?tagging            keys
DELETE  /{bucket}/{key}?tagging            keys
POST    /{bucket}/{key}?uploads            keys
PUT     /{bucket}/{key}?uploadId           keys
PUT     /{bucket}/{key}?uploadId+copy      keys
GET     /{bucket}/{key}?uploadId           keys
POST    /{bucket}/{key}?uploadId           keys
DELETE  /{bucket}/{key}?uploadId           keys
"""
STORE_OUTCOMES: dict[str, tuple[str, ...]] = {
    #              nobody   foreign  viewer  editor  owner   admin
    "keys":       ("403",   "403",   "403",  "in",   "in",   "in"),
    "any keys":   ("403",   "in",    "403",  "in",   "in",   "in"),
    "each":       ("403",   "each",  "403",  "in",   "in",   "in"),
    "manage":     ("403",   "403",   "403",  "403",  "403",  "in"),
}  # fmt: skip
"""Keys are a profile's, in a Secret that its viewer cannot read; `each`: the answer refuses key by key."""
