# Untested (see README.md). The base image brings CUDA, ROS 2 Humble and the Jetson's own build of torch.
FROM dustynv/ros:humble-pytorch-l4t-r36.2.0

ENV PIP="--no-cache-dir"
RUN pip3 install $PIP "numpy>=1.26,<3" "opencv-python-headless>=4.9,<6" "pillow>=10,<14" "PyYAML>=6,<7" \
    "matplotlib>=3.8,<4" "mcap>=1.1,<2" "rich>=13,<16" "safetensors>=0.4.3,<0.9" "scipy>=1.11,<2" "typer>=0.12,<0.30"

WORKDIR /ws
COPY . src/pomato_ros
RUN . /opt/ros/humble/install/setup.sh && colcon build --cmake-args -DBUILD_TESTING=OFF

RUN printf '#!/bin/sh\n. /opt/ros/humble/install/setup.sh\n. /ws/install/setup.sh\nexec "$@"\n' > /entrypoint.sh && chmod +x /entrypoint.sh
RUN useradd --create-home robot
USER robot
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "pomato_ros", "pomato.launch.py", "rviz:=false"]
