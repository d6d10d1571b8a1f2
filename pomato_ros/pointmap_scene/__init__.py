"""The estimator of pointmap networks; `pomato_ros.scene` takes its place once it holds its figures."""
