"""What runs on the device: the standard library, numpy and one runtime; pushed as one file.

    python runner.pyz '{"path": "net.onnx", "threads": 1, "runs": 50}'

prints one line of JSON. Nothing else of edgepress is imported, but by torch_eager, which runs
where edgepress is installed. Modules here import each other relatively: in the pushed file the
package bears another name (see targets.runner_file). One session a process: several thread pools in
one process spoil each other's times. Threads that spin while they wait look fast alone and starve
everything else on a phone, so spinning is off. Times are of one call at batch 1 on random input
made beforehand.
"""
