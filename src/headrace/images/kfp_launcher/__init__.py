"""The launcher: runs one step of a pipeline inside its pod.

It fetches the input artifacts, runs the author's command or component, stores the outputs and reports to the
pipelines API. Standard library only, no threads, few imports: it runs in whatever Python the step's image has, and it
may be forked from a warm interpreter. It does what kubeflow/pipelines backend/src/v2/component/launcher_v2.go does.
"""
